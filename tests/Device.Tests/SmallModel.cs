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

    // What stands behind the pieces: tokenizer_config.json's extra_ids.
    private const int Sentinels = 100;

    /// <param name="pieces">The most frequent pieces that the tokenizer keeps; texts have more unknown ones then, and logits are fewer. 0: all of them.</param>
    public SmallModel(int pieces = 0)
    {
        Folder = Directory.CreateTempSubdirectory("iptnative-").FullName;
        Model = Directory.CreateDirectory(Path.Combine(Folder, "model")).FullName;
        JsonObject config = JsonNode.Parse(File.ReadAllText(Path.Combine(Shipped, "config.json")))!.AsObject(); // an object, as every config.json
        foreach ((string name, int value) in ((string, int)[])[("d_model", 16), ("d_kv", 8), ("num_heads", 2), ("d_ff", 16), ("num_layers", 1), ("num_decoder_layers", 1)])
            config[name] = value;
        if (pieces > 0)
            config["vocab_size"] = pieces + Sentinels;
        RandomPackage.Write(T5Config.Parse(config, "config.json"), Model, DType.F32);
        File.Copy(Path.Combine(Shipped, "tokenizer_config.json"), Path.Combine(Model, "tokenizer_config.json"));
        byte[] tokenizer = File.ReadAllBytes(Path.Combine(Shipped, "spiece.model"));
        File.WriteAllBytes(Path.Combine(Model, "spiece.model"), pieces == 0 ? tokenizer : [.. FirstPieces(tokenizer, pieces)]);
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

    // A SentencePiece model is a protobuf message of length-delimited fields; field 1 is a piece, the most frequent ones first.
    private static List<byte> FirstPieces(byte[] model, int pieces)
    {
        const byte Piece = 1 << 3 | 2;
        var kept = new List<byte>();
        for (int at = 0, seen = 0; at < model.Length;)
        {
            int begin = at, length = 0;
            byte tag = model[at++];
            for (int shift = 0; ; shift += 7)
            {
                byte part = model[at++];
                length |= (part & 0x7F) << shift;
                if (part < 0x80)
                    break;
            }
            at += length;
            if (tag != Piece || seen++ < pieces)
                kept.AddRange(model.AsSpan(begin, at - begin));
        }
        return kept;
    }

    public void Dispose() => Directory.Delete(Folder, recursive: true);
}
