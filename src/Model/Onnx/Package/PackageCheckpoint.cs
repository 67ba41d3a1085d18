// A package of ours, opened: the fastest checkpoint there is, every tensor mapped in the layout in which it is used.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
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
    public override void RequireUnchanged() => _model.RequireUnchanged();

    /// <inheritdoc/>
    internal override bool IsMapped(in Weight weight) => _weights.IsMapped(weight);

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
            if (WeightFormats.Parse(said) is not { } dtype || tensor.DType != dtype)
                throw new InvalidDataException($"{model.Path}: tensor '{name}' is stored as {(tensor.DType is { } stored ? WeightFormats.Name(stored) : tensor.TypeName)}, package.json says {said}, expected one of {string.Join(", ", WeightFormats.Names)} in both. Export the package again, or update iptnative.");
            var weight = new OnnxWeight(tensor, false);
            if (WeightFormats.IsQuantised(dtype))
            {
                long blocks = Blocks(model, tensor, dtype);
                weight = weight with
                {
                    Scales = Beside(model, tensor, PackageTensor.ScaleOf(name), DType.F32, blocks),
                    ZeroPoints = dtype == DType.U4 ? Beside(model, tensor, PackageTensor.ZeroPointOf(name), DType.U4, blocks) : null,
                };
            }
            weights.Add(name, weight);
        }
        return weights;
    }

    // Any block size that the kernels read; which one, the scales' own shape says.
    private static long Blocks(OnnxModel model, OnnxTensor codes, DType dtype)
    {
        string name = PackageTensor.ScaleOf(codes.Name);
        long row = codes.Shape.Rank == 2 ? codes.Shape[1] : 0;
        if (row > 0 && model.Graph.Tensors.TryGetValue(name, out OnnxTensor? scales) && scales.Shape.Rank == 2 && scales.Shape[1] is > 0 and var blocks && row % blocks == 0)
        {
            long block = row / blocks;
            bool readable = dtype == DType.U4 ? block == BlockScales.U4Block && blocks % 2 == 0 : blocks == 1 || (block >= 16 && long.IsPow2(block));
            if (readable)
                return blocks;
        }
        string found = model.Graph.Tensors.TryGetValue(name, out OnnxTensor? there) ? $"has shape {there.Shape}" : "is missing";
        string expected = dtype == DType.U4 ? $"one scale for every {BlockScales.U4Block} elements of a row" : "one scale a row, or one for every power of two of 16 or more elements";
        throw new InvalidDataException($"{model.Path}: tensor '{codes.Name}' {codes.Shape} is {WeightFormats.Name(dtype)}, its scale tensor '{name}' {found}, expected {expected}. Export the package again.");
    }

    private static OnnxTensor Beside(OnnxModel model, OnnxTensor codes, string name, DType dtype, long blocks)
    {
        var shape = new TensorShape(codes.Shape[0], blocks);
        if (!model.Graph.Tensors.TryGetValue(name, out OnnxTensor? tensor) || tensor.DType != dtype || tensor.Shape != shape)
            throw new InvalidDataException($"{model.Path}: tensor '{name}' {(tensor is null ? "is missing" : $"is {tensor.TypeName} {tensor.Shape}")}, expected {dtype.Name()} {shape}: one for every block of '{codes.Name}' {codes.Shape}. Export the package again.");
        if (tensor.InPlace is not { } address || address % (dtype == DType.F32 ? sizeof(float) : 1) != 0)
            throw new InvalidDataException($"{model.Path}: tensor '{name}' does not lie in {PackageManifest.DataFile} on a multiple of {sizeof(float)} bytes, where packages have it. Export the package again.");
        return tensor;
    }
}
