// `iptnative export`: any checkpoint that can be read -> an ONNX package.
using System.CommandLine;
using IptNative.Cli.Terminal;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Onnx.Package;

namespace IptNative.Cli.Commands;

internal static class ExportCommand
{
    public static Command Create()
    {
        var checkpoint = new Option<string>("--checkpoint") { Description = "Folder, weight file or Hub name (google/t5-base-lm-adapt, from the local Hugging Face cache).", Required = true };
        var target = new Option<string>("--out") { Description = "Folder of the new package.", Required = true };
        var dtype = new Option<string>("--dtype") { Description = "Format of the weights; norms and position biases stay f32, in int8 and int4 the embeddings, lm_head and wo are bf16.", DefaultValueFactory = _ => "f32" };
        dtype.AcceptOnlyFromAmong([.. WeightFormats.Names]);
        var overwrite = new Option<bool>("--overwrite") { Description = "Replace a package that is already there." };
        var command = new Command("export", "Write a checkpoint as an ONNX package: plain standard ONNX, weights in external data under their Hugging Face names.")
        {
            checkpoint, target, dtype, overwrite,
        };
        command.WithExamples(
            "iptnative export --checkpoint google/t5-base-lm-adapt --out models/t5-base-lm-adapt",
            "iptnative export --checkpoint my-t5/pytorch_model.bin --out models/my-t5 --dtype bf16",
            "iptnative export --checkpoint models/t5-xl --out models/t5-xl-int8 --dtype int8");
        command.SetRun((parsed, cancel) =>
        {
            DType type = WeightFormats.Parse(parsed.GetValue(dtype)!)!.Value; // Checked by the option.
            // The exporter looks at every byte itself.
            using Checkpoint source = Checkpoint.Open(parsed.GetValue(checkpoint)!, new CheckpointOpenOptions { CheckFinite = false });
            string folder = parsed.GetValue(target)!;
            using (var progress = new ProgressLine("exporting"))
                PackageExporter.Export(source, folder, new PackageOptions(type, parsed.GetValue(overwrite)), new TensorProgress(progress), cancel);
            Console.WriteLine(folder);
            return ExitCode.Done;
        });
        return command;
    }

    // Told on the exporting thread itself: Progress<T> would report from the pool, after the line was cleared.
    private sealed class TensorProgress(ProgressLine line) : IProgress<PackageProgress>
    {
        public void Report(PackageProgress value) => line.Report(value.Bytes, value.TotalBytes, value.Tensor);
    }
}
