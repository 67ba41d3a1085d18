// A package of random weights, as small as a model can be that reads the shipped tokenizer's ids, and runs on it.
using System.Text.Json.Nodes;
using IptNative.Kernels;
using IptNative.Model.Config;
using IptNative.Model.Onnx.Package;
using IptNative.Model.Tests.Forward;
using IptNative.Tuning.Runs;

namespace IptNative.Device.Tests;

internal sealed class SmallModel : IDisposable
{
    private static readonly string Shipped = Path.Combine(Goldens.Root(), "models", "t5-gym-tiny");

    public SmallModel()
    {
        Folder = Directory.CreateTempSubdirectory("iptnative-").FullName;
        Model = Directory.CreateDirectory(Path.Combine(Folder, "model")).FullName;
        JsonObject config = JsonNode.Parse(File.ReadAllText(Path.Combine(Shipped, "config.json")))!.AsObject(); // an object, as every config.json
        foreach ((string name, int value) in ((string, int)[])[("d_model", 16), ("d_kv", 8), ("num_heads", 2), ("d_ff", 16), ("num_layers", 1), ("num_decoder_layers", 1)])
            config[name] = value;
        RandomPackage.Write(T5Config.Parse(config, "config.json"), Model, DType.F32);
        foreach (string file in (string[])["spiece.model", "tokenizer_config.json"])
            File.Copy(Path.Combine(Shipped, file), Path.Combine(Model, file));
    }

    public string Folder { get; }

    public string Model { get; }

    /// <summary>A few steps on a few examples, with nothing generated.</summary>
    public RunConfig Run(string name, string options = "\"method\": \"prompt_tuning\"", params string[] overrides) => RunConfig.Parse($$"""
        {
          "model": "{{Escaped(Model)}}",
          "tasks": [{ "name": "words-second", "data": "{{Escaped(Path.Combine(Goldens.Root(), "examples", "gym"))}}", "train_limit": 6, "dev_limit": 1, "test_limit": 1 }],
          "prompt": { "length": 3, "init": "vocab" },
          "training": { "steps": 3, "batch_size": 2, "eval_every": 2, "max_source_length": 8, "max_target_length": 4 },
          "evaluation": { "baselines": false, "max_length": 2 },
          "threads": 1,
          "output": "{{Escaped(Path.Combine(Folder, name))}}",
          {{options}}
        }
        """, "test.json", Folder, overrides);

    public static string Escaped(string path) => path.Replace("\\", "\\\\", StringComparison.Ordinal);

    public void Dispose() => Directory.Delete(Folder, recursive: true);
}
