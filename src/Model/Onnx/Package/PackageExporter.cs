// Writes a package from any opened checkpoint, in one pass that holds one tensor at a time. All or nothing: a temporary folder is renamed at the end.
// Deliberately not: the graph itself (Onnx/Graph), the manifest's format (PackageManifest).
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Onnx.Graph;

namespace IptNative.Model.Onnx.Package;

/// <summary>Exports checkpoints as packages: standard ONNX with external data, named after Hugging Face's parameters.</summary>
public static class PackageExporter
{
    // Tensors of a page or more start on a page, so that runtimes may map each by itself; smaller ones on a cache line.
    private const long PageBytes = 4096;
    private const long LineBytes = 64;

    // The graph of the largest T5 and the tokenizer's files are well below this.
    private const long RoomForTheRest = 16 << 20;

    // The source's companions that belong to using it, where it has them.
    private static readonly string[] Companions = ["spiece.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json"];

    private static readonly string[] Written = [PackageManifest.ModelFile, PackageManifest.DataFile, PackageManifest.FileName, "config.json", .. Companions];

    /// <summary>Writes a package.</summary>
    /// <param name="source">An opened checkpoint of any format; its copies of tensors are released one by one.</param>
    /// <param name="outDir">The folder to make.</param>
    /// <param name="options">Element type, overwriting.</param>
    /// <param name="progress">Told after each tensor.</param>
    /// <param name="cancellation">Stops; nothing is left behind.</param>
    /// <exception cref="ArgumentException">The element type is none of F32, BF16, F16, I8, U4.</exception>
    /// <exception cref="InvalidDataException">The source's bytes are not those of its check sums, or a weight is not finite or does not fit the type.</exception>
    /// <exception cref="IOException">The place is taken, or the disk is too full.</exception>
    /// <exception cref="OperationCanceledException">Asked to stop.</exception>
    public static void Export(Checkpoint source, string outDir, PackageOptions options, IProgress<PackageProgress>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentException.ThrowIfNullOrWhiteSpace(outDir);
        ArgumentNullException.ThrowIfNull(options);
        if (WeightFormats.Parse(WeightFormats.Name(options.DType)) is null)
            throw new ArgumentException($"dtype: found {options.DType.Name()}, expected one of {string.Join(", ", WeightFormats.Names)}.", nameof(options));

        outDir = Path.TrimEndingDirectorySeparator(Path.GetFullPath(outDir));
        RequireFreePlace(source, outDir, options.Overwrite);
        // An error of the source would live on in the package under a check sum of its own, which then calls it right.
        source.VerifyChecksums();
        IReadOnlyList<PackageTensor> plan = Plan(source.Config, options.DType);
        string tmp = $"{outDir}.tmp-{RandomNumberGenerator.GetHexString(8, lowercase: true)}";
        string? madeParent = CreateDirectory(tmp);
        try
        {
            RequireFreeSpace(outDir, Bytes(plan), new DriveInfo(tmp).AvailableFreeSpace);
            Write(source, tmp, plan, options.DType, progress, cancellation);
            cancellation.ThrowIfCancellationRequested();
            Install(tmp, outDir);
        }
        catch
        {
            // Gone where the very last step failed: the package is installed then.
            if (Directory.Exists(tmp))
                Directory.Delete(tmp, recursive: true);
            RemoveEmptyParents(madeParent, tmp);
            throw;
        }
    }

    /// <summary>Where each tensor will lie and in what type; a quantised one's scales and zero points follow it.</summary>
    /// <param name="config">The model.</param>
    /// <param name="format">The matrices' format.</param>
    /// <returns>In the order of a forward pass.</returns>
    internal static IReadOnlyList<PackageTensor> Plan(T5Config config, DType format)
    {
        var plan = new List<PackageTensor>();
        long end = 0;
        foreach (T5Parameter parameter in T5Parameters.Of(config))
        {
            DType type = WeightFormats.Stored(parameter, format);
            Add(parameter.Name, type, parameter.Shape);
            if (!WeightFormats.IsQuantised(type))
                continue;
            var blocks = new TensorShape(parameter.Shape[0], parameter.Shape[1] / WeightFormats.Block(type, parameter.Shape[1]));
            Add(PackageTensor.ScaleOf(parameter.Name), DType.F32, blocks);
            if (type == DType.U4)
                Add(PackageTensor.ZeroPointOf(parameter.Name), DType.U4, blocks);
        }
        return plan;

        void Add(string name, DType type, TensorShape shape)
        {
            long length = type.ByteLength(shape.Elements);
            long alignment = length >= PageBytes ? PageBytes : LineBytes;
            long offset = (end + alignment - 1) / alignment * alignment;
            plan.Add(new(name, type, shape, PackageManifest.DataFile, offset, length));
            end = offset + length;
        }
    }

    /// <summary>What the package takes on disk, with room for the graph and the tokenizer.</summary>
    internal static long Bytes(IReadOnlyList<PackageTensor> plan) => plan[^1].Offset + plan[^1].Length + RoomForTheRest;

    /// <summary>Refuses to start what the disk cannot hold.</summary>
    /// <param name="outDir">For the message.</param>
    /// <param name="needed">Bytes.</param>
    /// <param name="free">Bytes.</param>
    /// <exception cref="IOException">Too little is free.</exception>
    internal static void RequireFreeSpace(string outDir, long needed, long free) =>
        DiskSpace.Require(outDir, "exporting a package", needed, free, "choose another disk, or export a smaller type with --dtype bf16, int8 or int4.");

    private static void RequireFreePlace(Checkpoint source, string outDir, bool overwrite)
    {
        if (File.Exists(outDir))
            throw new IOException($"{outDir}: exporting a package; found a file of that name, expected a folder to make. Choose another --out.");
        if (source.Files.Any(f => Path.GetDirectoryName(Path.GetFullPath(f)) == outDir))
            throw new IOException($"{outDir}: exporting a package; the checkpoint itself lies there. Choose another --out.");
        if (!Directory.Exists(outDir) || !Directory.EnumerateFileSystemEntries(outDir).Any())
            return;
        if (!OnnxCheckpoints.IsPackage(outDir))
            throw new IOException($"{outDir}: exporting a package; the folder exists and holds something else. Choose another --out, or remove it first.");
        if (!overwrite)
            throw new IOException($"{outDir}: exporting a package; there is one already. Choose another --out, or replace it with --overwrite.");
    }

    private static void Write(Checkpoint source, string dir, IReadOnlyList<PackageTensor> plan, DType format, IProgress<PackageProgress>? progress, CancellationToken cancellation)
    {
        PackageFile data = WriteData(new CheckpointTensors(source), Path.Combine(dir, PackageManifest.DataFile), plan, progress, cancellation);
        foreach (string name in Companions)
        {
            if (Beside(source, name) is { } path)
                File.WriteAllBytes(Path.Combine(dir, name), File.ReadAllBytes(path));
        }
        var sources = new SortedDictionary<string, PackageFile>(StringComparer.Ordinal);
        foreach (string path in source.Files)
            sources[Path.GetFileName(path)] = FileHash.Of(path, cancellation);
        WriteRest(dir, source.Config, ConfigBytes(source), new(SourceName(source), sources), plan, format, data, cancellation);
    }

    /// <summary>Writes the graph, the configuration and the manifest beside the weights.</summary>
    internal static void WriteRest(string dir, T5Config config, byte[] configBytes, PackageSource source, IReadOnlyList<PackageTensor> plan, DType format, PackageFile data, CancellationToken cancellation)
    {
        File.WriteAllBytes(Path.Combine(dir, PackageManifest.ModelFile), T5PackageGraph.Build(config, plan));
        File.WriteAllBytes(Path.Combine(dir, "config.json"), configBytes);
        var files = new SortedDictionary<string, PackageFile>(StringComparer.Ordinal) { [PackageManifest.DataFile] = data };
        foreach (string path in Directory.EnumerateFiles(dir))
        {
            if (!files.ContainsKey(Path.GetFileName(path)))
                files.Add(Path.GetFileName(path), FileHash.Of(path, cancellation));
        }
        PackageManifest manifest = new()
        {
            FormatVersion = plan.Any(t => WeightFormats.IsQuantised(t.DType)) ? PackageManifest.QuantisedVersion : 1,
            Source = source,
            DTypeName = WeightFormats.Name(format),
            Files = files,
            Tensors = plan.ToDictionary(t => t.Name, t => WeightFormats.Name(t.DType), StringComparer.Ordinal),
        };
        File.WriteAllBytes(Path.Combine(dir, PackageManifest.FileName), manifest.ToBytes());
    }

    /// <summary>Writes all tensors in one pass and hashes them on the way.</summary>
    internal static PackageFile WriteData(ITensorBytes source, string path, IReadOnlyList<PackageTensor> plan, IProgress<PackageProgress>? progress, CancellationToken cancellation)
    {
        long total = plan.Sum(t => t.Length);
        long done = 0;
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using FileStream file = new(path, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1);
        foreach (PackageTensor tensor in plan)
        {
            Put(new byte[tensor.Offset - file.Position]);
            source.Write(tensor, Put);
            progress?.Report(new(done += tensor.Length, total, tensor.Name));
        }
        // On the disk before the folder gets its name: a package that is there is whole.
        file.Flush(flushToDisk: true);
        return new(file.Position, FileHash.Hex(hash));

        void Put(ReadOnlySpan<byte> bytes)
        {
            cancellation.ThrowIfCancellationRequested();
            hash.AppendData(bytes);
            file.Write(bytes);
        }
    }

    // The source's own file byte for byte, unless the checkpoint's configuration is another.
    private static byte[] ConfigBytes(Checkpoint source)
    {
        if (Beside(source, "config.json") is { } path && JsonNode.DeepEquals(T5Config.Load(path).Source, source.Config.Source))
            return File.ReadAllBytes(path);
        return Encoding.UTF8.GetBytes(source.Config.Source.ToJsonString(new() { WriteIndented = true, NewLine = "\n" }) + "\n");
    }

    // Beside the weights, or one folder up where they lie in onnx/ as on the Hub.
    private static string? Beside(Checkpoint source, string name)
    {
        string dir = Folder(source);
        string up = Path.GetFileName(dir) == "onnx" ? Path.GetDirectoryName(dir)! : dir;
        return ((string[])[dir, up]).Select(d => Path.Combine(d, name)).FirstOrDefault(File.Exists);
    }

    // The last folder's name; for the Hub's cache (models--owner--name/snapshots/revision) the Hub's name and revision.
    private static string SourceName(Checkpoint source)
    {
        string[] parts = Folder(source).Split(Path.DirectorySeparatorChar);
        int hub = Array.FindLastIndex(parts, p => p.StartsWith("models--", StringComparison.Ordinal));
        return hub < 0 ? parts[^1]
            : parts[hub]["models--".Length..].Replace("--", "/", StringComparison.Ordinal) + (hub + 2 < parts.Length ? $"@{parts[hub + 2]}" : "");
    }

    private static string Folder(Checkpoint source)
    {
        string first = Path.GetFullPath(source.Files.Count > 0 ? source.Files[0] : source.Location);
        return Directory.Exists(first) ? Path.TrimEndingDirectorySeparator(first) : Path.GetDirectoryName(first)!;
    }

    private static void Install(string tmp, string outDir)
    {
        if (!Directory.Exists(outDir))
        {
            Directory.Move(tmp, outDir);
            return;
        }
        string old = $"{tmp}-old";
        Directory.Move(outDir, old);
        try
        {
            Directory.Move(tmp, outDir);
        }
        catch
        {
            Directory.Move(old, outDir);
            throw;
        }
        // What somebody laid beside a package (a README, an adapter) is not ours to remove.
        foreach (string path in Directory.EnumerateFileSystemEntries(old))
        {
            string name = Path.GetFileName(path);
            if (!Written.Contains(name))
                Directory.Move(path, Path.Combine(outDir, name));
        }
        Directory.Delete(old, recursive: true);
    }

    // Makes the folder; returns the topmost parent that had to be made, so that a failed export can take it away again.
    private static string? CreateDirectory(string dir)
    {
        string? made = null;
        for (string? parent = Path.GetDirectoryName(dir); parent is not null && !Directory.Exists(parent); parent = Path.GetDirectoryName(parent))
            made = parent;
        Directory.CreateDirectory(dir);
        return made;
    }

    private static void RemoveEmptyParents(string? topmost, string below)
    {
        if (topmost is null)
            return;
        string dir = Path.GetDirectoryName(below)!;
        while (dir.Length >= topmost.Length && !Directory.EnumerateFileSystemEntries(dir).Any())
        {
            Directory.Delete(dir);
            dir = Path.GetDirectoryName(dir)!;
        }
    }
}
