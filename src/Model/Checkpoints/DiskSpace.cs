// Whether a disk holds what is about to be written, asked before the first byte. Deliberately no reservation: that is the writer's.
namespace IptNative.Model.Checkpoints;

/// <summary>Refuses to start what the disk cannot hold.</summary>
internal static class DiskSpace
{
    /// <summary>Compares what is needed with what is free.</summary>
    /// <param name="path">For the message.</param>
    /// <param name="purpose">What needs it: "exporting a package".</param>
    /// <param name="needed">Bytes.</param>
    /// <param name="free">Bytes.</param>
    /// <param name="advice">What else to do than to free some space.</param>
    /// <exception cref="IOException">Too little is free.</exception>
    public static void Require(string path, string purpose, long needed, long free, string advice)
    {
        if (free >= needed)
            return;
        // One unit for both, in which the smaller is not 0.
        (int shift, string unit) = Math.Min(needed, free) >= 10L << 20 ? (20, "MiB") : needed >= 10L << 10 ? (10, "KiB") : (0, "bytes");
        throw new IOException($"{path}: {purpose} needs {needed >> shift} {unit}, the disk has {free >> shift} {unit} free. Free some space, {advice}");
    }
}
