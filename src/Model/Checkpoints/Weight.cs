// One tensor's bytes as every reader hands them out, and the seam between checkpoint formats and their users.
using IptNative.Kernels;

namespace IptNative.Model.Checkpoints;

/// <summary>A frozen tensor: where its bytes lie and how to read them. Row-major, little-endian, torch layout ([out, in] for linear weights).</summary>
/// <param name="Name">HF path.</param>
/// <param name="DType">Element type as stored.</param>
/// <param name="Shape">Dimensions.</param>
/// <param name="Address">First byte; valid until the owning <see cref="Checkpoint"/> is disposed. Never written to.</param>
/// <param name="ByteLength">Bytes: DType.ByteLength(Shape.Elements).</param>
public readonly record struct Weight(string Name, DType DType, TensorShape Shape, nint Address, long ByteLength);

/// <summary>An opened checkpoint of any format: configuration and frozen tensors by Hugging Face name.</summary>
/// <remarks>
/// Tensors are mapped from the file where the format allows it; a transposed, strided or compressed one is laid out once, in native memory, when first asked for.
/// Names are canonical (<see cref="Config.T5Parameters.Canonical"/>), shapes have been checked against the configuration when the checkpoint was opened.
/// Thread-safe for reading. Disposing unmaps everything.
/// </remarks>
public abstract class Checkpoint : IDisposable
{
    /// <summary>The folder or file that was opened, for messages.</summary>
    public abstract string Location { get; }

    /// <summary>The weight files that were opened, with their full paths, for provenance and hashes.</summary>
    public abstract IReadOnlyList<string> Files { get; }

    /// <summary>The model's configuration.</summary>
    public abstract Config.T5Config Config { get; }

    /// <summary>A parameter's bytes.</summary>
    /// <param name="name">Canonical HF name.</param>
    /// <returns>The tensor; see <see cref="Weight"/> for its lifetime.</returns>
    /// <exception cref="InvalidDataException">The file lacks the tensor or its bytes are damaged.</exception>
    public abstract Weight this[string name] { get; }

    /// <summary>Gives back memory that was made for a tensor (a transposed copy), so that an export holds one at a time. A mapped tensor needs nothing.</summary>
    /// <param name="name">Canonical HF name.</param>
    public virtual void Release(string name)
    {
    }

    /// <summary>Unmaps the files.</summary>
    /// <param name="disposing">True from Dispose.</param>
    protected abstract void Dispose(bool disposing);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }
}
