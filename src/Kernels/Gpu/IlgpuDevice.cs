// What every device that ILGPU compiles for has in common: typed launches, views of raw addresses, checks whose answer comes later, scratch memory.
// Deliberately not: which machine it is and how memory is copied (Cuda/CudaDevice.cs; the tests' devices), nor any op (Ops/*.Ilgpu.cs).
using ILGPU;
using ILGPU.Runtime;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Gpu;

/// <summary>A kernel: a struct of its arguments and what one thread does with them.</summary>
/// <typeparam name="TSelf">The implementing struct; views, numbers and flags only.</typeparam>
internal interface IGpuKernel<TSelf>
    where TSelf : struct, IGpuKernel<TSelf>
{
    /// <summary>One thread's work.</summary>
    static abstract void Run(TSelf arguments);
}

/// <summary>A device whose kernels are compiled by ILGPU. Work is done in order, later: <see cref="Synchronize"/> waits and reports what was wrong with it.</summary>
internal abstract class IlgpuDevice : ComputeDevice
{
    /// <summary>A multiple of what every access of an element or of four needs, and of a memory transaction.</summary>
    public const int Alignment = 256;

    private readonly Accelerator _accelerator;
    private readonly bool _owns;
    private readonly AcceleratorStream _stream;
    private readonly AddressSpace _space;
    private readonly DeviceFaults _faults;
    private readonly StagedOffsets _offsets;
    private readonly List<DeviceBuffer> _held = [];
    private readonly Dictionary<Buffer, string> _live = [];
    private readonly Dictionary<(bool, int, int), DeviceBuffer> _buckets = [];
    private Delegate?[] _kernels = new Delegate?[64];
    private DeviceBuffer? _scratch;
    private long _heldBytes;
    private long _peak;

    /// <summary>Makes a device of an accelerator.</summary>
    /// <param name="accelerator">Where kernels run.</param>
    /// <param name="threads">Threads of an ordinary group: a multiple of the warp.</param>
    /// <param name="owns">True: the accelerator is disposed with the device.</param>
    /// <param name="compute">Precision of the operands of matrix products that do not say their own.</param>
    /// <param name="stream">Where all work goes; null: the accelerator's default stream. Not disposed here.</param>
    protected IlgpuDevice(Accelerator accelerator, int threads, bool owns, ComputeType compute, AcceleratorStream? stream = null)
    {
        Compute = compute;
        _accelerator = accelerator;
        _stream = stream ?? accelerator.DefaultStream;
        _owns = owns;
        Threads = threads;
        Multiprocessors = accelerator.NumMultiprocessors;
        _space = new AddressSpace(accelerator);
        _faults = new DeviceFaults(this);
        _offsets = new StagedOffsets(this);
    }

    /// <inheritdoc/>
    public override ComputeType Compute { get; }

    /// <inheritdoc/>
    public override long PeakBytes => _peak;

    /// <summary>Threads of an ordinary group.</summary>
    public int Threads { get; }

    /// <summary>Threads of a warp.</summary>
    public int WarpSize => _accelerator.WarpSize;

    /// <summary>What grids are sized by.</summary>
    public int Multiprocessors { get; }

    /// <summary>Checks of data that only the device has read.</summary>
    public DeviceFaults Faults => _faults;

    /// <summary>Where the rows of ragged batches begin, brought there once for all calls that say the same.</summary>
    public StagedOffsets Offsets => _offsets;

    /// <inheritdoc/>
    public override DeviceBuffer Allocate(DType type, long elements, string purpose)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(elements, 1);
        // 4-bit elements have no address of their own.
        int size = Math.Max(1, type.Bits() / 8);
        var buffer = new Buffer(this, type, elements, AllocateRaw(_accelerator, type.ByteLength(elements) / size, size, purpose));
        lock (_live)
        {
            _live.Add(buffer, purpose);
            _heldBytes += buffer.Bytes;
            _peak = Math.Max(_peak, _heldBytes);
        }
        return buffer;
    }

    /// <inheritdoc/>
    public override void Synchronize()
    {
        _stream.Synchronize();
        _faults.Report();
    }

    /// <inheritdoc/>
    public override void CopyFromHost(ReadOnlySpan<byte> source, Tensor target)
    {
        RequireSize(nameof(CopyFromHost), source.Length, target);
        Upload(source, target.Address);
    }

    /// <inheritdoc/>
    public override void CopyToHost(Tensor source, Span<byte> target)
    {
        RequireSize(nameof(CopyToHost), target.Length, source);
        Synchronize();
        Download(source.Address, target);
    }

    /// <summary>Copies, in order with the kernels. The source may be reused on return.</summary>
    public abstract void Upload(ReadOnlySpan<byte> source, nint target);

    /// <summary>Copies back; waits for the work before.</summary>
    public abstract void Download(nint source, Span<byte> target);

    /// <summary>A typed window on a tensor's memory; of no elements where the tensor is left out.</summary>
    public ArrayView<T> View<T>(Tensor tensor)
        where T : unmanaged => Window<T>(tensor.Address, tensor.IsEmpty ? 0 : tensor.Elements);

    /// <summary>A window on any device address, ONNX Runtime's too.</summary>
    public unsafe ArrayView<T> Window<T>(nint address, long elements)
        where T : unmanaged => elements == 0 ? default : new ArrayView<T>(_space, (address - AddressShift) / sizeof(T), elements);

    /// <summary>The device's whole memory, for kernels that are told addresses; element 0 stands at address <see cref="SpaceShift"/>.</summary>
    public unsafe ArrayView<T> Space<T>()
        where T : unmanaged => new(_space, 0, long.MaxValue / sizeof(T));

    /// <summary>What a tensor's address is ahead of the element that it stands for in <see cref="Space{T}"/>, in bytes.</summary>
    public long SpaceShift => AddressShift;

    /// <summary>Enough groups to fill the machine a few times, and no more than there is work: kernels walk on by the grid's size.</summary>
    /// <param name="pieces">Groups that would do one piece each.</param>
    public int Groups(long pieces) => (int)Math.Clamp(pieces, 1, Multiprocessors * 8L);

    /// <summary>Hands the kernel to the stream.</summary>
    /// <remarks>
    /// The kernel is compiled when it is first launched (a second or so for all of them together; a run uses about half) and kept: from then on a launch
    /// allocates nothing.
    /// </remarks>
    public void Launch<TKernel>(in TKernel arguments, int groups, int threads)
        where TKernel : struct, IGpuKernel<TKernel> => Launch(arguments, new Index3D(groups, 1, 1), threads);

    /// <inheritdoc cref="Launch{TKernel}(in TKernel, int, int)"/>
    public void Launch<TKernel>(in TKernel arguments, Index3D groups, int threads)
        where TKernel : struct, IGpuKernel<TKernel>
    {
        int slot = KernelSlot<TKernel>.Number;
        if (slot >= _kernels.Length || _kernels[slot] is not Action<AcceleratorStream, KernelConfig, TKernel> launcher)
            launcher = Compile<TKernel>(slot);
        launcher(_stream, new KernelConfig(groups, new Index3D(threads, 1, 1)), arguments);
    }

    /// <summary>Scratch memory that the next kernels may fill; its content lives until the next op asks. Grows as needed.</summary>
    public Tensor Scratch(DType type, long elements)
    {
        long bytes = type.ByteLength(elements);
        if (_scratch is null || _scratch.Tensor.Elements < bytes)
        {
            // Kernels in flight may still use the old one.
            Synchronize();
            _scratch?.Dispose();
            _scratch = null;
            _scratch = Allocate(DType.U8, Math.Max(bytes, 1 << 20), "the kernels' scratch memory");
        }
        return new Tensor(this, _scratch.Tensor.Address, type, elements);
    }

    /// <summary>The bucket of every distance from -maxDistance to maxDistance, computed on the host once: the float logarithm decides some of them.</summary>
    public Tensor DistanceBuckets(bool bidirectional, int buckets, int maxDistance)
    {
        if (!_buckets.TryGetValue((bidirectional, buckets, maxDistance), out DeviceBuffer? buffer))
        {
            var table = new int[2 * maxDistance + 1];
            for (int i = 0; i < table.Length; i++)
                table[i] = RelativePositionBias.Bucket(i - maxDistance, bidirectional, buckets, maxDistance);
            buffer = Allocate(DType.I32, table.Length, "the buckets of relative positions");
            Upload(System.Runtime.InteropServices.MemoryMarshal.AsBytes<int>(table), buffer.Tensor.Address);
            _buckets.Add((bidirectional, buckets, maxDistance), buffer);
        }
        return buffer.Tensor;
    }

    /// <summary>Which products are the library's, where there is one.</summary>
    public ProductTable Products { get; set; } = ProductTable.Library;

    /// <summary>Whether NVIDIA's library multiplies here too.</summary>
    public virtual bool HasProductLibrary => false;

    /// <summary>The matrix product; devices with tensor cores or a library of their own do better.</summary>
    /// <param name="args">Validated.</param>
    public virtual void Multiply(in GemmArgs args) => PlainGemm.Run(this, args);

    /// <summary>Memory that lives as long as the device.</summary>
    public Tensor Hold(DType type, long elements, string purpose)
    {
        DeviceBuffer buffer = Allocate(type, elements, purpose);
        _held.Add(buffer);
        return buffer.Tensor;
    }

    /// <summary>What tensors' addresses are ahead of the accelerator's: 0, but where a test takes care that the host cannot touch them by mistake.</summary>
    protected virtual nint AddressShift => 0;

    /// <summary>Takes memory from the accelerator.</summary>
    /// <exception cref="InsufficientMemoryException">There is not enough.</exception>
    protected abstract MemoryBuffer AllocateRaw(Accelerator accelerator, long length, int elementSize, string purpose);

    /// <summary>Bytes taken and not given back.</summary>
    protected long HeldBytes => _heldBytes;

    /// <summary>What to throw when there is no room: names what holds the most.</summary>
    /// <param name="purpose">What the memory was for.</param>
    /// <param name="bytes">How much was asked for.</param>
    /// <param name="free">How much there is.</param>
    /// <param name="total">Of how much.</param>
    /// <param name="cause">What the accelerator said.</param>
    protected InsufficientMemoryException NoRoom(string purpose, long bytes, long free, long total, Exception? cause)
    {
        const int Named = 5;
        string largest;
        lock (_live)
            largest = string.Join(", ", _live.OrderByDescending(entry => entry.Key.Bytes).Take(Named).Select(entry => $"{entry.Value} {entry.Key.Bytes} bytes"));
        return new InsufficientMemoryException(
            $"{purpose}: taking {bytes} bytes on {Name} failed; {free} of {total} bytes are free. Largest so far: {(largest.Length > 0 ? largest : "nothing")}. "
            + "Use a smaller batch, a smaller weight dtype or a leaner activation tape.", cause);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (!disposing)
            return;
        _scratch?.Dispose();
        _offsets.Dispose();
        foreach (DeviceBuffer buffer in _held.Concat(_buckets.Values))
            buffer.Dispose();
        _space.Dispose();
        if (_owns)
            _accelerator.Dispose();
    }

    private Action<AcceleratorStream, KernelConfig, TKernel> Compile<TKernel>(int slot)
        where TKernel : struct, IGpuKernel<TKernel>
    {
        if (slot >= _kernels.Length)
            Array.Resize(ref _kernels, 2 * slot);
        Action<AcceleratorStream, KernelConfig, TKernel> launcher = _accelerator.LoadKernel<TKernel>(TKernel.Run);
        _kernels[slot] = launcher;
        return launcher;
    }

    private sealed class Buffer(IlgpuDevice device, DType type, long elements, MemoryBuffer memory) : DeviceBuffer
    {
        private MemoryBuffer? _memory = memory;

        public override Tensor Tensor => _memory is { } held ? new Tensor(device, held.NativePtr + device.AddressShift, type, elements) : throw new ObjectDisposedException(nameof(DeviceBuffer));

        public long Bytes { get; } = type.ByteLength(elements);

        protected override void Dispose(bool disposing)
        {
            if (!disposing || Interlocked.Exchange(ref _memory, null) is not { } held)
                return;
            held.Dispose();
            lock (device._live)
            {
                device._live.Remove(this);
                device._heldBytes -= Bytes;
            }
        }
    }

    private static class KernelSlot<TKernel>
    {
        public static readonly int Number = KernelSlots.Next();
    }
}

/// <summary>One number per kernel type, for all devices.</summary>
internal static class KernelSlots
{
    private static int s_last = -1;

    public static int Next() => Interlocked.Increment(ref s_last);
}

/// <summary>The device's whole memory as one buffer from address 0, so that a view of any address is a value and costs no object.</summary>
internal sealed class AddressSpace(Accelerator accelerator) : MemoryBuffer(accelerator, long.MaxValue, 1)
{
    protected override void MemSet(AcceleratorStream stream, byte value, in ArrayView<byte> targetView) => throw NoCopies();

    protected override void CopyTo(AcceleratorStream stream, in ArrayView<byte> sourceView, in ArrayView<byte> targetView) => throw NoCopies();

    protected override void CopyFrom(AcceleratorStream stream, in ArrayView<byte> sourceView, in ArrayView<byte> targetView) => throw NoCopies();

    protected override void DisposeAcceleratorObject(bool disposing)
    {
    }

    private static NotSupportedException NoCopies() => new("The address space is for views of kernels; IlgpuDevice copies.");
}
