// The seam between ops and hardware: memory and where work runs. The ops themselves are in Ops/, one file pair each.
namespace IptNative.Kernels.Devices;

/// <summary>A device that ops run on. An op's static entry validates and then dispatches on the concrete device.</summary>
public abstract class ComputeDevice : IDisposable
{
    /// <summary>The name used by <c>--device</c> and in messages: cpu, cuda:0.</summary>
    public abstract string Name { get; }

    /// <summary>Precision of the operands of matrix products that do not say their own.</summary>
    public virtual ComputeType Compute => ComputeType.F32;

    /// <summary>Takes uninitialised memory, 64-byte aligned.</summary>
    /// <param name="type">Element type.</param>
    /// <param name="elements">1 or more.</param>
    /// <param name="purpose">Named when memory runs out.</param>
    /// <returns>The owner; dispose it.</returns>
    /// <exception cref="InsufficientMemoryException">The device has no room.</exception>
    public abstract DeviceBuffer Allocate(DType type, long elements, string purpose);

    /// <summary>Waits until all work handed to the device is done. Nothing to do on the CPU.</summary>
    public virtual void Synchronize()
    {
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
