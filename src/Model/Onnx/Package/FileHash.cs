// SHA-256 of a file, read once, interruptible.
using System.Security.Cryptography;

namespace IptNative.Model.Onnx.Package;

/// <summary>Hashes files.</summary>
internal static class FileHash
{
    private const int BufferBytes = 1 << 20;

    /// <summary>Size and SHA-256 of a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="cancellation">Stops between blocks.</param>
    /// <returns>Its entry for a manifest.</returns>
    public static PackageFile Of(string path, CancellationToken cancellation)
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

    /// <summary>A finished hash as text.</summary>
    /// <param name="hash">Reset by this.</param>
    /// <returns>Lower-case hexadecimal.</returns>
    public static string Hex(IncrementalHash hash) => Convert.ToHexStringLower(hash.GetHashAndReset());
}
