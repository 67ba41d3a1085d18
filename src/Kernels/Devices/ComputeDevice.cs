// The seam between ops and hardware: memory and where work runs. The ops themselves are in Ops/, one file pair each.
namespace IptNative.Kernels.Devices;

/// <summary>A device that ops run on. An op's static entry validates and then dispatches on the concrete device.</summary>
public abstract class ComputeDevice : IDisposable
{
    /// <summary>The name used by <c>--device</c> and in messages: cpu, cuda:0.</summary>
    public abstract string Name { get; }

    /// <summary>Precision of the operands of matrix products that do not say their own.</summary>
    public virtual ComputeType Compute => ComputeType.F32;

    /// <summary>Bytes that could be taken from it now; null where that is the system's to say (the CPU).</summary>
    public virtual long? FreeBytes => null;

    /// <summary>The most bytes that were taken from it at once; 0 on the CPU, whose memory is the process'.</summary>
    public virtual long PeakBytes => 0;

    /// <summary>What a library that computes on the same GPU has to know; null where the device is none of CUDA's.</summary>
    public virtual CudaPlacement? Cuda => null;

    /// <summary>Takes uninitialised memory, 64-byte aligned.</summary>
    /// <param name="type">Element type.</param>
    /// <param name="elements">1 or more.</param>
    /// <param name="purpose">Named when memory runs out.</param>
    /// <returns>The owner; dispose it.</returns>
    /// <exception cref="InsufficientMemoryException">The device has no room.</exception>
    public abstract DeviceBuffer Allocate(DType type, long elements, string purpose);

    /// <summary>Copies host memory to the device, in order with the work handed to it before; the source may be reused on return.</summary>
    /// <param name="source">As many bytes as the tensor has.</param>
    /// <param name="target">On this device, overwritten.</param>
    /// <exception cref="ArgumentException">The sizes differ.</exception>
    public abstract void CopyFromHost(ReadOnlySpan<byte> source, Tensor target);

    /// <summary>Waits for the work handed to the device before and copies its memory to the host.</summary>
    /// <param name="source">On this device.</param>
    /// <param name="target">As many bytes as the tensor has, overwritten.</param>
    /// <exception cref="ArgumentException">The sizes differ, or an op before was given data that only the device could check: see <see cref="Synchronize"/>.</exception>
    public abstract void CopyToHost(Tensor source, Span<byte> target);

    /// <summary>Waits until all work handed to the device is done. Nothing to do on the CPU.</summary>
    /// <exception cref="ArgumentException">An op before was given ids, labels, lengths or places out of range; on the CPU it has said so itself.</exception>
    public virtual void Synchronize()
    {
    }

    /// <summary>A clock in the device's own work, for profiling.</summary>
    /// <returns>To be disposed before the device; null where an op is done when it returns.</returns>
    public virtual DeviceTimeline? CreateTimeline() => null;

    /// <summary>Throws unless host memory and tensor are of one size.</summary>
    private protected static void RequireSize(string op, long bytes, Tensor tensor)
    {
        if (bytes != tensor.DType.ByteLength(tensor.Elements))
            throw new ArgumentException($"{op}: found {bytes} bytes of host memory for a tensor of {tensor.DType.ByteLength(tensor.Elements)}.");
    }

    /// <summary>Frees what the device holds.</summary>
    /// <param name="disposing">True from Dispose.</param>
    protected abstract void Dispose(bool disposing);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }
}

/// <summary>Owner of a piece of device memory.</summary>
public abstract class DeviceBuffer : IDisposable
{
    /// <summary>The whole memory as a tensor; invalid after disposal.</summary>
    public abstract Tensor Tensor { get; }

    /// <summary>Frees the memory.</summary>
    /// <param name="disposing">True from Dispose.</param>
    protected abstract void Dispose(bool disposing);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }
}
