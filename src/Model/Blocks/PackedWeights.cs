// The packed copies of a small model's matrices, made once and read by every batch that runs side by side. Deliberately not: which matrices are packed (StepWeight).
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Model.Blocks;

/// <summary>Packed matrices of one checkpoint by where they are stored. Thread-safe.</summary>
/// <remarks>Batches on threads of their own read the same cache lines: two copies of a model are together more than the last-level cache that two cores share.</remarks>
public sealed class PackedWeights : IDisposable
{
    private readonly Dictionary<(nint Address, int Outer), PackedMatrix> _matrices = [];

    /// <summary>The packed copy of a matrix; packs it where it is asked for the first time.</summary>
    /// <param name="device">Packs it; need not be the one that packed the others.</param>
    /// <param name="stored">[outer, inner], the checkpoint's own memory.</param>
    /// <param name="outer">Rows.</param>
    /// <param name="inner">Columns.</param>
    /// <exception cref="InsufficientMemoryException">The machine has no room for the copy.</exception>
    internal PackedMatrix Of(CpuDevice device, Tensor stored, int outer, int inner)
    {
        lock (_matrices)
        {
            if (!_matrices.TryGetValue((stored.Address, outer), out PackedMatrix? packed))
                _matrices.Add((stored.Address, outer), packed = new PackedMatrix(device, stored, outer, inner));
            return packed;
        }
    }

    /// <summary>Frees the copies; nothing that reads them may be running.</summary>
    public void Dispose()
    {
        foreach (PackedMatrix matrix in _matrices.Values)
            matrix.Dispose();
        _matrices.Clear();
    }
}
