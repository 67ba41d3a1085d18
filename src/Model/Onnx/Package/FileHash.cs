// SHA-256 of a file, read once, interruptible.
using System.Security.Cryptography;

namespace IptNative.Model.Onnx.Package;

/// <summary>Hashes files.</summary>
public static class FileHash
{
    private const int BufferBytes = 1 << 20;

    /// <summary>Size and SHA-256 of a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="cancellation">Stops between blocks.</param>
    /// <returns>Its entry for a manifest.</returns>
    internal static PackageFile Of(string path, CancellationToken cancellation)
    {
        using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1, FileOptions.SequentialScan);
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] buffer = new byte[BufferBytes];
        long bytes = 0;
        for (int n = file.Read(buffer); n > 0; n = file.Read(buffer))
        {
            cancellation.ThrowIfCancellationRequested();
            hash.AppendData(buffer, 0, n);
            bytes += n;
        }
        return new(bytes, Hex(hash));
    }

    /// <summary>SHA-256 of a file as text.</summary>
    /// <param name="path">The file.</param>
    /// <param name="cancellation">Stops between blocks.</param>
    /// <returns>Lower-case hexadecimal.</returns>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static string Sha256(string path, CancellationToken cancellation = default) => Of(path, cancellation).Sha256;

    /// <summary>A finished hash as text.</summary>
    /// <param name="hash">Reset by this.</param>
    /// <returns>Lower-case hexadecimal.</returns>
    internal static string Hex(IncrementalHash hash) => Convert.ToHexStringLower(hash.GetHashAndReset());
}
