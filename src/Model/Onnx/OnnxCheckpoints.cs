// Which ONNX checkpoint a path names: the ONNX part of the checkpoint factory.
using IptNative.Model.Checkpoints;
using IptNative.Model.Onnx.Package;

namespace IptNative.Model.Onnx;

/// <summary>Recognises and opens packages and exported pairs.</summary>
internal static class OnnxCheckpoints
{
    /// <summary>Whether a folder is a package of ours.</summary>
    /// <param name="dir">A folder.</param>
    /// <returns>True where it has package.json.</returns>
    public static bool IsPackage(string dir) => File.Exists(Path.Combine(dir, PackageManifest.FileName));

    /// <summary>Whether a folder holds an exported pair, itself or in its onnx subfolder.</summary>
    /// <param name="dir">A folder.</param>
    /// <returns>True where there is an encoder_model.onnx.</returns>
    public static bool IsOptimumPair(string dir) => OptimumCheckpoint.PairFolder(dir) is not null;

    /// <summary>Opens a package or an exported pair.</summary>
    /// <param name="path">A folder, or an .onnx file in it.</param>
    /// <returns>The checkpoint.</returns>
    /// <exception cref="InvalidDataException">It is neither, or it is damaged.</exception>
    /// <exception cref="FileNotFoundException">There is no such file or folder.</exception>
    public static Checkpoint Open(string path)
    {
        if (Directory.Exists(path))
        {
            if (IsPackage(path))
                return PackageCheckpoint.Open(path);
            string folder = OptimumCheckpoint.PairFolder(path)
                ?? throw new InvalidDataException($"{path}: opening an ONNX checkpoint; found neither {PackageManifest.FileName} nor encoder_model.onnx. Make a package with: iptnative export --checkpoint DIR --out DIR.");
            return OptimumCheckpoint.Open(Path.Combine(folder, "encoder_model.onnx"));
        }
        if (!File.Exists(path))
            throw new FileNotFoundException($"{path}: opening an ONNX checkpoint; there is no such file or folder.", path);
        string dir = Path.GetDirectoryName(Path.GetFullPath(path))!;
        return Path.GetFileName(path) == PackageManifest.ModelFile && IsPackage(dir) ? PackageCheckpoint.Open(dir) : OptimumCheckpoint.Open(path);
    }
}
