// A package of ours, opened: the fastest checkpoint there is, every tensor mapped in the layout in which it is used.
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Onnx.Wire;

namespace IptNative.Model.Onnx.Package;

/// <summary>Weights of a package (architecture: model.onnx with external data, config.json, package.json).</summary>
internal sealed class PackageCheckpoint : Checkpoint
{
    private readonly OnnxModel _model;
    private readonly OnnxWeightStore _weights;

    private PackageCheckpoint(string dir, T5Config config, PackageManifest manifest, OnnxModel model, Dictionary<string, OnnxWeight> weights)
    {
        Location = dir;
        Config = config;
        Manifest = manifest;
        _model = model;
        _weights = new(dir, weights);
        Files = [.. model.Files];
    }

    /// <inheritdoc/>
    public override string Location { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<string> Files { get; }

    /// <inheritdoc/>
    public override T5Config Config { get; }

    /// <summary>The package's provenance and checksums.</summary>
    public PackageManifest Manifest { get; }

    /// <inheritdoc/>
    public override Weight this[string name] => _weights.Get(name);

    /// <inheritdoc/>
    public override void Release(string name) => _weights.Release(name);

    /// <inheritdoc/>
    public override void VerifyChecksums()
    {
        if (PackageVerifier.Verify(Location) is [string first, ..])
            throw new InvalidDataException(first);
    }

    /// <summary>Maps a package and checks names, shapes, types and lengths. Checksums are compared by <see cref="VerifyChecksums"/>.</summary>
    /// <param name="dir">The folder.</param>
    /// <returns>The checkpoint.</returns>
    /// <exception cref="InvalidDataException">The package is damaged, incomplete or of a newer version.</exception>
    public static PackageCheckpoint Open(string dir)
    {
        PackageManifest manifest = PackageManifest.Load(dir);
        foreach (string name in (string[])[PackageManifest.ModelFile, PackageManifest.DataFile])
        {
            if (!manifest.Files.TryGetValue(name, out PackageFile? file))
                throw new InvalidDataException($"{Path.Combine(dir, PackageManifest.FileName)}: opening a package; it lists no {name}. Export the package again.");
            FileInfo found = new(Path.Combine(dir, name));
            if (!found.Exists || found.Length != file.Bytes)
                throw new InvalidDataException($"{found.FullName}: opening a package; found {(found.Exists ? $"{found.Length} bytes" : "no such file")}, package.json says {file.Bytes} bytes. The copy is incomplete; copy or export the package again.");
        }
        string configPath = Path.Combine(dir, "config.json");
        if (!File.Exists(configPath))
            throw new InvalidDataException($"{configPath}: opening a package; the file is missing. Copy or export the package again.");
        T5Config config = T5Config.Load(configPath);

        OnnxModel model = OnnxModel.Open(Path.Combine(dir, PackageManifest.ModelFile));
        try
        {
            return new PackageCheckpoint(dir, config, manifest, model, Weights(model, manifest, config));
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _weights.Dispose();
        _model.Dispose();
    }

    private static Dictionary<string, OnnxWeight> Weights(OnnxModel model, PackageManifest manifest, T5Config config)
    {
        var weights = new Dictionary<string, OnnxWeight>(StringComparer.Ordinal);
        foreach ((string name, TensorShape shape) in T5Parameters.Of(config))
        {
            if (!model.Graph.Tensors.TryGetValue(name, out OnnxTensor? tensor))
                throw new InvalidDataException($"{model.Path}: opening a package; tensor '{name}' is missing, config.json implies it. Export the package again.");
            if (tensor.Shape != shape)
                throw new InvalidDataException($"{model.Path}: tensor '{name}' has shape {tensor.Shape}, config.json implies {shape}. Export the package again.");
            string said = manifest.Tensors.GetValueOrDefault(name, "missing");
            if (PackageManifest.ParseDType(said) is not { } dtype || tensor.DType != dtype)
                throw new InvalidDataException($"{model.Path}: tensor '{name}' is stored as {tensor.TypeName}, package.json says {said}, expected f32, bf16 or f16 in both. Export the package again, or update iptnative.");
            weights.Add(name, new OnnxWeight(tensor, false));
        }
        return weights;
    }
}
