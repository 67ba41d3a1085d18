// One tensor's bytes as every reader hands them out, and the seam between checkpoint formats and their users.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Config;

namespace IptNative.Model.Checkpoints;

/// <summary>A frozen tensor: where its bytes lie and how to read them. Row-major, little-endian, torch layout ([out, in] for linear weights).</summary>
/// <param name="Name">HF path.</param>
/// <param name="DType">Element type as stored.</param>
/// <param name="Shape">Dimensions.</param>
/// <param name="Address">First byte; valid until the owning <see cref="Checkpoint"/> is disposed. Never written to.</param>
/// <param name="ByteLength">Bytes: DType.ByteLength(Shape.Elements).</param>
public readonly record struct Weight(string Name, DType DType, TensorShape Shape, nint Address, long ByteLength)
{
    /// <summary>Scales, and zero points where there are some, of i8 and u4 codes; absent for floats. As long-lived as the codes.</summary>
    public BlockScales Scales { get; init; }
}

/// <summary>An opened checkpoint of any format: configuration and frozen tensors by Hugging Face name.</summary>
/// <remarks>
/// Tensors are mapped from the file where the format allows it; a transposed, strided or compressed one is laid out once, in native memory, when first asked for.
/// Names are canonical (<see cref="Config.T5Parameters.Canonical"/>), shapes have been checked against the configuration when the checkpoint was opened.
/// Thread-safe for reading. Disposing unmaps everything.
/// </remarks>
public abstract partial class Checkpoint : IDisposable
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

    /// <summary>Names of tensors in the files that a T5 has no use for; they were not read. Known leftovers of other libraries are not listed.</summary>
    public virtual IReadOnlyList<string> Ignored => [];

    /// <summary>Searches every parameter for NaN and infinity.</summary>
    /// <remarks>Reads all bytes once, on all cores: what a mapped file costs anyway before its first forward pass.</remarks>
    /// <exception cref="InvalidDataException">A value is not finite; the message names the first parameter in the order of <see cref="Config.T5Parameters.Of"/>.</exception>
    public void CheckFinite() => CheckFinite(releasePages: false);

    /// <summary>The same; each tensor's pages may be given back when it has been searched, for weights that will be streamed.</summary>
    internal void CheckFinite(bool releasePages)
    {
        string[] names = [.. T5Parameters.Of(Config).Select(p => p.Name)];
        var found = new long[names.Length];
        Parallel.For(0, names.Length, i =>
        {
            found[i] = WeightValues.FirstNonFinite(this[names[i]]);
            if (releasePages)
                Release(names[i]);
        });
        for (int i = 0; i < names.Length; i++)
        {
            if (found[i] < 0)
                continue;
            bool codes = this[names[i]].Scales.IsPresent;
            throw new InvalidDataException($"{Location}: checking the weights; tensor '{names[i]}' {this[names[i]].Shape} has a NaN or infinity {(codes ? "among its scales, in the block of" : "at")} element {found[i]}, expected finite numbers. The training or conversion that made the file went wrong, or it is damaged: take another copy.");
        }
    }

    /// <summary>Compares the files' bytes with the check sums that their format carries; does nothing where it carries none.</summary>
    /// <exception cref="InvalidDataException">Bytes have changed since the files were written.</exception>
    public virtual void VerifyChecksums()
    {
    }

    /// <summary>Gives back memory that holds a tensor, so that an export holds one at a time: a copy is freed, the pages of a mapped one are read again when they are touched again.</summary>
    /// <param name="name">Canonical HF name.</param>
    public virtual void Release(string name)
    {
    }

    /// <summary>Refuses to go on with files that were truncated or rewritten since they were opened. Asks the system for two numbers a file.</summary>
    /// <exception cref="IOException">A file has another length or time.</exception>
    public virtual void RequireUnchanged()
    {
    }

    /// <summary>Whether a weight's memory is that of the file, so that its pages may be dropped and read again.</summary>
    internal virtual bool IsMapped(in Weight weight) => false;

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
