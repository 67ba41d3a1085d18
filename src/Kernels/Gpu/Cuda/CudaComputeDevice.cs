// An NVIDIA GPU: the accelerator, its memory and its copies. Deliberately not the kernels, which any ILGPU device runs, nor the context that it shares
// with ONNX Runtime (PrimaryContext.cs).
using System.Reflection;
using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Kernels.Gpu;

/// <summary>An NVIDIA GPU.</summary>
internal sealed unsafe class CudaComputeDevice : IlgpuDevice
{
    // Eight warps: enough to hide latency at four groups a multiprocessor, and the matrix product's and attention's tile.
    private const int ThreadsOfGroup = 256;
    private static int s_resolverIsSet;

    private readonly Context? _context;
    private readonly PrimaryContext? _primary;
    private readonly CudaAccelerator _cuda;
    private readonly CudaStream _stream;
    private readonly CuBlas? _cublas;
    private bool _disposed;

    /// <summary>A device on an accelerator that exists.</summary>
    /// <param name="accelerator">Where kernels run.</param>
    /// <param name="context">Disposed with the device, and the accelerator too; null where both belong to another.</param>
    /// <param name="compute">Precision of the operands of matrix products that do not say their own.</param>
    /// <param name="primary">The context that the accelerator was put into; given back with the device. Null: the accelerator's own.</param>
    /// <param name="notShared">Why it is the accelerator's own.</param>
    internal CudaComputeDevice(CudaAccelerator accelerator, Context? context, ComputeType compute, PrimaryContext? primary = null, string notShared = "its context belongs to another device")
        : this(accelerator, context, compute, primary, notShared, Stream(accelerator))
    {
    }

    private CudaComputeDevice(CudaAccelerator accelerator, Context? context, ComputeType compute, PrimaryContext? primary, string notShared, CudaStream stream)
        : base(accelerator, ThreadsOfGroup, owns: context is not null, compute, stream)
    {
        _context = context;
        _primary = primary;
        _cuda = accelerator;
        _stream = stream;
        Name = $"cuda:{accelerator.DeviceId}";
        Cuda = new CudaPlacement(accelerator.DeviceId, stream.StreamPtr, primary is null ? notShared : "");
        if (CuBlasLibrary.Find() is { } library)
            _cublas = new CuBlas(library, stream.StreamPtr);
        Products = ProductTable.Parse(Environment.GetEnvironmentVariable(ProductTable.Variable));
    }

    /// <inheritdoc/>
    public override bool HasProductLibrary => _cublas is not null;

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override CudaPlacement Cuda { get; }

    /// <inheritdoc/>
    public override long? FreeBytes => _cuda.GetFreeMemory();

    /// <summary>bf16 and tf32 tensor cores.</summary>
    public bool HasTensorCores => _cuda.Architecture.Major >= 8;

    /// <summary>Opens GPU <paramref name="ordinal"/>, which the driver shows.</summary>
    /// <exception cref="NotSupportedException">ILGPU cannot use it.</exception>
    public static CudaComputeDevice Open(int ordinal, ComputeType compute)
    {
        (Context context, CudaAccelerator accelerator) = Create(ordinal);
        PrimaryContext? primary = PrimaryContext.Adopt(accelerator, out string notShared);
        return new CudaComputeDevice(accelerator, context, compute, primary, notShared);
    }

    /// <summary>ILGPU's context and accelerator for a GPU, with the settings that the kernels were read in.</summary>
    /// <exception cref="NotSupportedException">ILGPU cannot use it.</exception>
    internal static (Context Context, CudaAccelerator Accelerator) Create(int ordinal)
    {
        FindDriver();
        Context context = Context.Create(builder => builder.Cuda().Optimize(OptimizationLevel.O2).Inlining(InliningMode.Aggressive).Math(MathMode.Default));
        foreach (CudaDevice device in context.GetCudaDevices())
        {
            if (device.DeviceId == ordinal)
                return (context, device.CreateCudaAccelerator(context));
        }
        int seen = context.GetCudaDevices().Count;
        context.Dispose();
        throw new NotSupportedException($"--device cuda:{ordinal}: the driver shows this GPU, ILGPU {Context.Version} finds {seen} that it can compile for. Is its architecture newer than ILGPU knows?");
    }

    /// <inheritdoc/>
    public override void Upload(ReadOnlySpan<byte> source, nint target)
    {
        fixed (byte* from = source)
            Copy(target, (nint)from, source.Length);
    }

    /// <inheritdoc/>
    public override void Download(nint source, Span<byte> target)
    {
        fixed (byte* to = target)
            Copy((nint)to, source, target.Length);
        _stream.Synchronize();
    }

    /// <inheritdoc/>
    public override void Multiply(in GemmArgs args)
    {
        if (_cublas is { } cublas && CuBlas.Fits(args) && !Products.PrefersOwn(ProductShape.Of(args, this)))
        {
            _cuda.Bind();
            cublas.Run(this, args);
            return;
        }
        if (args.ComputesIn(this) == ComputeType.BF16 && HasTensorCores && TensorGemm.Fits(args))
            TensorGemm.Run(this, args);
        else
            base.Multiply(args);
    }

    /// <inheritdoc/>
    public override DeviceTimeline CreateTimeline() => new CudaTimeline(_cuda, _stream);

    /// <inheritdoc/>
    protected override MemoryBuffer AllocateRaw(Accelerator accelerator, long length, int elementSize, string purpose)
    {
        try
        {
            return accelerator.AllocateRaw(length, elementSize);
        }
        catch (AcceleratorException e)
        {
            throw NoRoom(purpose, length * elementSize, _cuda.GetFreeMemory(), _cuda.MemorySize, e);
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (!disposing || _disposed)
            return;
        _disposed = true;
        // By whichever thread: a server's device is opened by one, used by another and given back by a third.
        _cuda.Bind();
        _cublas?.Dispose();
        _stream.Synchronize();
        _stream.Dispose();
        // The accelerator destroys what it made itself, and the primary context is not that.
        _primary?.Leave();
        base.Dispose(disposing);
        _primary?.Dispose();
        _context?.Dispose();
    }

    // A stream of its own: libraries take the legacy stream's handle, 0, for "none given". It waits for the legacy stream and that one for it.
    private static CudaStream Stream(CudaAccelerator accelerator)
    {
        accelerator.Bind();
        return accelerator.CreateStream(StreamFlags.CU_STREAM_DEFAULT);
    }

    private void Copy(nint target, nint source, long bytes)
    {
        if (bytes == 0)
            return;
        _cuda.Bind();
        // From pageable memory the driver returns when it has taken the bytes over.
        CudaException.ThrowIfFailed(CudaAPI.CurrentAPI.MemcpyAsync(target, source, (nint)bytes, _stream));
    }

    // ILGPU asks for libcuda.so, which a machine without the toolkit's links does not have; on WSL it brings a resolver of its own.
    private static void FindDriver()
    {
        if (OperatingSystem.IsWindows() || Directory.Exists("/usr/lib/wsl/lib") || Interlocked.Exchange(ref s_resolverIsSet, 1) != 0)
            return;
        NativeLibrary.SetDllImportResolver(typeof(Context).Assembly, static (string name, Assembly assembly, DllImportSearchPath? path) =>
        {
            if (name != "cuda")
                return 0;
            foreach (string candidate in CudaDriver.LibraryNames)
            {
                if (NativeLibrary.TryLoad(candidate, out nint library))
                    return library;
            }
            return 0;
        });
    }
}
