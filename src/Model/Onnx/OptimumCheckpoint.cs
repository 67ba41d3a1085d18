// A T5 exported to ONNX by Optimum (or torch.onnx.export with its file names): encoder and decoder file together are one checkpoint.
// Deliberately not: running these graphs. Only their weights are taken; the forward pass is built here.
using System.Text.RegularExpressions;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Onnx.Wire;

namespace IptNative.Model.Onnx;

/// <summary>Weights recovered from an exported pair.</summary>
internal sealed partial class OptimumCheckpoint : Checkpoint
{
    private const string HowToExport = "Export it with: optimum-cli export onnx --task text2text-generation --no-post-process --model NAME DIR; or open the original Hugging Face folder instead.";

    private readonly OnnxModel _encoder;
    private readonly OnnxModel _decoder;
    private readonly OnnxWeightStore _weights;

    private OptimumCheckpoint(string location, T5Config config, OnnxModel encoder, OnnxModel decoder, Dictionary<string, OnnxWeight> weights)
    {
        Location = location;
        Config = config;
        _encoder = encoder;
        _decoder = decoder;
        _weights = new(location, weights);
        Files = [.. encoder.Files, .. decoder.Files];
    }

    /// <inheritdoc/>
    public override string Location { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<string> Files { get; }

    /// <inheritdoc/>
    public override T5Config Config { get; }

    /// <inheritdoc/>
    public override Weight this[string name] => _weights.Get(name);

    /// <inheritdoc/>
    public override void Release(string name) => _weights.Release(name);

    /// <summary>The folder that holds an exported pair: the given one, or its onnx subfolder as on the Hub.</summary>
    /// <param name="dir">A checkpoint folder.</param>
    /// <returns>Null where neither has an encoder_model.onnx.</returns>
    public static string? PairFolder(string dir) =>
        ((string[])[dir, Path.Combine(dir, "onnx")]).FirstOrDefault(d => File.Exists(Path.Combine(d, "encoder_model.onnx")));

    /// <summary>Opens the pair that a file belongs to.</summary>
    /// <param name="file">encoder_model.onnx, decoder_model.onnx, decoder_model_merged.onnx or decoder_with_past_model.onnx, perhaps with a suffix such as _fp16.</param>
    /// <returns>The checkpoint.</returns>
    /// <exception cref="InvalidDataException">A file of the pair is missing, damaged, optimised, quantised or of another exporter.</exception>
    public static OptimumCheckpoint Open(string file)
    {
        string dir = Path.GetDirectoryName(Path.GetFullPath(file))!;
        Match match = PairFile().Match(Path.GetFileName(file));
        if (!match.Success)
        {
            using OnnxModel stranger = OnnxModel.Open(file);
            RefuseOtherExporters(stranger);
            throw new InvalidDataException($"{file}: opening an ONNX model; expected model.onnx of a package with its package.json, or encoder_model.onnx and decoder_model.onnx as Optimum names them. Rename the files so, or open the original Hugging Face folder instead.");
        }
        string suffix = match.Groups["suffix"].Value;
        string encoderPath = Required(Path.Combine(dir, $"encoder_model{suffix}.onnx"), file, "the encoder's weights");
        string decoderPath = ((string[])[$"decoder_model{suffix}.onnx", $"decoder_model_merged{suffix}.onnx"]).Select(n => Path.Combine(dir, n)).FirstOrDefault(File.Exists)
            ?? throw new InvalidDataException(File.Exists(Path.Combine(dir, $"decoder_with_past_model{suffix}.onnx"))
                ? $"{Path.Combine(dir, $"decoder_with_past_model{suffix}.onnx")}: opening an exported pair; decoder_with_past_model lacks the keys and values of cross-attention, so decoder_model{suffix}.onnx or decoder_model_merged{suffix}.onnx is needed beside it. {HowToExport}"
                : $"{dir}: opening an exported pair; found encoder_model{suffix}.onnx, expected decoder_model{suffix}.onnx or decoder_model_merged{suffix}.onnx beside it. {HowToExport}");
        string configPath = ((string[])[dir, Path.GetDirectoryName(dir) ?? dir]).Select(d => Path.Combine(d, "config.json")).FirstOrDefault(File.Exists)
            ?? throw new InvalidDataException($"{dir}: opening an exported pair; config.json is missing. Copy it from the checkpoint that was exported.");
        T5Config config = T5Config.Load(configPath);

        OnnxModel? encoder = null;
        OnnxModel? decoder = null;
        try
        {
            encoder = OnnxModel.Open(encoderPath);
            RefuseOtherExporters(encoder);
            decoder = OnnxModel.Open(decoderPath);
            RefuseOtherExporters(decoder);
            return new OptimumCheckpoint(file, config, encoder, decoder, Join(encoder, decoder, config));
        }
        catch
        {
            encoder?.Dispose();
            decoder?.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _weights.Dispose();
        _encoder.Dispose();
        _decoder.Dispose();
    }

    [GeneratedRegex(@"^(encoder_model|decoder_model_merged|decoder_model|decoder_with_past_model)(?<suffix>_\w+)?\.onnx$", RegexOptions.CultureInvariant | RegexOptions.ExplicitCapture)]
    private static partial Regex PairFile();

    private static string Required(string path, string opened, string what) => File.Exists(path) ? path
        : throw new InvalidDataException($"{opened}: opening an exported pair; {what} are expected in {Path.GetFileName(path)} beside it, which is missing. {HowToExport}");

    private static Dictionary<string, OnnxWeight> Join(OnnxModel encoder, OnnxModel decoder, T5Config config)
    {
        Dictionary<string, OnnxWeight> weights = OptimumNames.Find(encoder, "encoder", config);
        foreach ((string name, OnnxWeight weight) in OptimumNames.Find(decoder, "decoder", config))
        {
            if (weights.TryAdd(name, weight))
                continue;
            if (!OnnxSample.Same(weights[name], weight))
                throw new InvalidDataException($"{decoder.Path}: '{name}' has other values than in {Path.GetFileName(encoder.Path)}. The two files are of different models; take both from one export.");
        }

        string[] missing = [.. T5Parameters.Of(config).Select(p => p.Name).Where(n => !weights.ContainsKey(n))];
        if (missing.Length == 0)
            return weights;
        OnnxModel file = missing[0].StartsWith("encoder.", StringComparison.Ordinal) ? encoder : decoder;
        string reason = missing.All(n => n.EndsWith("EncDecAttention.k.weight", StringComparison.Ordinal) || n.EndsWith("EncDecAttention.v.weight", StringComparison.Ordinal))
            ? "This is a decoder_with_past model, which lacks the keys and values of cross-attention"
            : "config.json is of another model, or the file was optimised and its nodes renamed";
        throw new InvalidDataException($"{file.Path}: recovering weights by name and node scope; {missing.Length} parameter(s) not found, the first is '{missing[0]}'. {reason}. {HowToExport}");
    }

    private static void RefuseOtherExporters(OnnxModel model)
    {
        if (model.Graph.Inputs.FirstOrDefault(i => i.Name is "encoder_input_ids") is { Name: not null } input)
            throw new InvalidDataException($"{model.Path}: input '{input.Name}'{(input.ElementType == 6 ? " of int32" : "")} shows the file to be made by ONNX Runtime's own T5 exporter (onnxruntime.transformers), whose graphs carry no module names. {HowToExport}");
        foreach (OnnxNode node in model.Graph.All.SelectMany(g => g.Nodes))
        {
            if (node.OpType is "MatMulInteger" or "DynamicQuantizeLinear" or "QLinearMatMul" or "DequantizeLinear" or "MatMulNBits")
                throw new InvalidDataException($"{model.Path}: node '{node.Name}' is {node.OpType}: the file was quantised, its weights are rounded. Use the unquantised export. {HowToExport}");
            if (node.Domain.StartsWith("com.microsoft", StringComparison.Ordinal) || node.OpType is "SimplifiedLayerNormalization" or "SkipSimplifiedLayerNormalization")
                throw new InvalidDataException($"{model.Path}: node '{node.Name}' is {(node.Domain.Length > 0 ? node.Domain + "." : "")}{node.OpType}: the file was optimised by ONNX Runtime, which fuses nodes and drops the names of weights. Use the unoptimised export. {HowToExport}");
        }
    }
}
