// The embedded default device: host memory and a worker pool.
using System.Runtime.InteropServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Devices;

/// <summary>The CPU. Always there.</summary>
public sealed unsafe class CpuDevice : ComputeDevice
{
    /// <summary>Alignment of every buffer: one AVX-512 register, one cache line.</summary>
    public const int Alignment = 64;

    /// <summary>Starts the worker threads.</summary>
    /// <param name="threads">Threads that compute, 1 or more; 0 takes the machine's cores.</param>
    /// <param name="compute">Precision of the operands of matrix products that do not say their own.</param>
    public CpuDevice(int threads = 0, ComputeType compute = ComputeType.F32)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(threads);
        Pool = new WorkerPool(threads == 0 ? Environment.ProcessorCount : threads);
        Compute = compute;
        Scratch = new CpuScratch(
            Pool.Workers,
            Math.Max(GemmBlocking.SharedFloats, BF16Blocking.SharedPairs),
            Math.Max(GemmBlocking.BlockFloats, BF16Blocking.BlockPairs),
            Math.Max(GemmBlocking.PanelFloats, BF16Blocking.PanelPairs));
        Memory = new WorkerMemory(Pool.Workers);
    }

    /// <inheritdoc/>
    public override string Name => "cpu";

    /// <inheritdoc/>
    public override ComputeType Compute { get; }

    /// <summary>The kernels of bf16 products, or why there are none; loaded when first asked for.</summary>
    internal BF16Kernels MachineCode
    {
        get => field ??= BF16Kernels.Shared;
        init;
    }

    /// <summary>The threads that ops split their work over.</summary>
    public WorkerPool Pool { get; }

    /// <summary>Packing memory of the matrix product.</summary>
    internal CpuScratch Scratch { get; }

    /// <summary>Working memory of other ops.</summary>
    internal WorkerMemory Memory { get; }

    /// <inheritdoc/>
    public override DeviceBuffer Allocate(DType type, long elements, string purpose)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(elements, 1);
        long bytes = type.ByteLength(elements);
        try
        {
            return new HostBuffer(this, type, elements, (nint)NativeMemory.AlignedAlloc((nuint)bytes, Alignment));
        }
        catch (OutOfMemoryException e)
        {
            throw new InsufficientMemoryException($"{purpose}: taking {bytes} bytes of host memory failed. Use a smaller batch, a smaller weight dtype or a leaner activation tape.", e);
        }
    }

    /// <inheritdoc/>
    public override void CopyFromHost(ReadOnlySpan<byte> source, Tensor target)
    {
        RequireSize(nameof(CopyFromHost), source.Length, target);
        source.CopyTo(new Span<byte>((void*)target.Address, source.Length));
    }

    /// <inheritdoc/>
    public override void CopyToHost(Tensor source, Span<byte> target)
    {
        RequireSize(nameof(CopyToHost), target.Length, source);
        new ReadOnlySpan<byte>((void*)source.Address, target.Length).CopyTo(target);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (!disposing)
            return;
        Pool.Dispose();
        Scratch.Dispose();
        Memory.Dispose();
    }

    private sealed class HostBuffer(CpuDevice device, DType type, long elements, nint address) : DeviceBuffer
    {
        private nint _address = address;

        public override Tensor Tensor => _address != 0 ? new Tensor(device, _address, type, elements) : throw new ObjectDisposedException(nameof(DeviceBuffer));

        protected override void Dispose(bool disposing)
        {
            nint held = Interlocked.Exchange(ref _address, 0);
            if (held != 0)
                NativeMemory.AlignedFree((void*)held);
        }

        ~HostBuffer() => Dispose(false);
    }
}
