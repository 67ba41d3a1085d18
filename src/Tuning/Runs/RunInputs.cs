// What a run reads, by content: a file that was changed since makes it another run, a file that was moved does not.
using IptNative.Model.Onnx.Package;

namespace IptNative.Tuning.Runs;

/// <summary>SHA-256 of the files that a run reads, by a name that does not depend on where they lie.</summary>
public sealed class RunInputs
{
    private readonly SortedDictionary<string, string> _files = new(StringComparer.Ordinal);

    /// <summary>Hash by name.</summary>
    public IReadOnlyDictionary<string, string> Files => _files;

    /// <summary>Hashes a file.</summary>
    /// <param name="role">What it is to the run: "model", "task sst2". The file's own name is added.</param>
    /// <param name="path">The file.</param>
    /// <param name="cancellation">Stops between blocks.</param>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public void Add(string role, string path, CancellationToken cancellation = default) => Add(role, path, FileHash.Sha256(path, cancellation));

    /// <summary>Adds a file whose hash is known.</summary>
    /// <param name="role">What it is to the run.</param>
    /// <param name="path">The file.</param>
    /// <param name="sha256">Its SHA-256, lower-case hexadecimal.</param>
    public void Add(string role, string path, string sha256)
    {
        ArgumentException.ThrowIfNullOrEmpty(role);
        _files[$"{role}/{Path.GetFileName(path)}"] = sha256;
    }
}
