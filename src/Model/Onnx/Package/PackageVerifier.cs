// The slow check of a package: every file's bytes against package.json. Opening checks lengths only.
namespace IptNative.Model.Onnx.Package;

/// <summary>Compares a package's files with the checksums that its export wrote.</summary>
public static class PackageVerifier
{
    /// <summary>Reads every file of a package.</summary>
    /// <param name="dir">The package.</param>
    /// <param name="cancellation">Stops between blocks.</param>
    /// <returns>One sentence per file that is missing or differs; empty where all is well.</returns>
    /// <exception cref="InvalidDataException">package.json is damaged or of a newer version.</exception>
    public static IReadOnlyList<string> Verify(string dir, CancellationToken cancellation = default)
    {
        PackageManifest manifest = PackageManifest.Load(dir);
        var problems = new List<string>();
        foreach ((string name, PackageFile expected) in manifest.Files)
        {
            string path = Path.Combine(dir, name);
            if (!File.Exists(path))
            {
                problems.Add($"{path}: the file is missing; package.json lists it. Copy or export the package again.");
                continue;
            }
            PackageFile found = FileHash.Of(path, cancellation);
            if (found.Bytes != expected.Bytes)
                problems.Add($"{path}: found {found.Bytes} bytes, package.json says {expected.Bytes}. Copy or export the package again.");
            else if (found.Sha256 != expected.Sha256)
                problems.Add($"{path}: found sha256 {found.Sha256}, package.json says {expected.Sha256}. The file was changed after the export; copy or export the package again.");
        }
        return problems;
    }
}
