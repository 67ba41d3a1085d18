// export_onnx: the same command as `iptnative export`, for those who look for it in tools/. Nothing of its own.
return IptNative.Cli.Program.Main(["export", .. args]);
