// The host's side: an accelerator that runs kernels group by group on CPU threads, its stream and its memory.
using System.Reflection;
using ILGPU.Emulation;

namespace ILGPU.Runtime;

/// <summary>A machine to run kernels on.</summary>
public sealed class Accelerator : IDisposable
{
    /// <summary>Makes one.</summary>
    /// <param name="warpSize">Lanes of a warp.</param>
    /// <param name="maxThreads">Threads of the largest group.</param>
    /// <param name="multiprocessors">What kernels size their grids by.</param>
    public Accelerator(int warpSize, int maxThreads, int multiprocessors)
    {
        WarpSize = warpSize;
        MaxNumThreadsPerGroup = maxThreads;
        NumMultiprocessors = multiprocessors;
        DefaultStream = new AcceleratorStream();
    }

    public int WarpSize { get; }

    public int MaxNumThreadsPerGroup { get; }

    public int NumMultiprocessors { get; }

    public AcceleratorStream DefaultStream { get; }

    internal DeviceMemory Memory { get; } = new();

    /// <summary>Binds the calling thread to the core of a number. The emulation's own: the threads of a launch take turns, which is quickest on one core.</summary>
    public Action<int> PlaceThread { get; init; } = _ => { };

    /// <summary>Takes device memory, filled with NaN patterns.</summary>
    public MemoryBuffer AllocateRaw(long length, int elementSize) => new AllocatedBuffer(this, length, elementSize);

    /// <summary>A launcher of an explicitly grouped kernel.</summary>
    public Action<AcceleratorStream, KernelConfig, T> LoadKernel<T>(Action<T> action)
        where T : struct
    {
        if (!action.Method.IsStatic)
            throw new NotSupportedException($"The kernel {action.Method.Name} is no static method: ILGPU compiles no closures.");
        RequireBlittable(typeof(T), typeof(T));
        return (_, config, arguments) => KernelLaunch.Run(this, action.Method, config, () => action(arguments));
    }

    public void Dispose() => Memory.Dispose();

    // As ILGPU: a bool or a char has another size on the host.
    private static void RequireBlittable(Type kernel, Type type)
    {
        foreach (FieldInfo field in type.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic))
        {
            Type part = field.FieldType;
            bool isView = part.IsGenericType && part.GetGenericTypeDefinition() == typeof(ArrayView<>);
            if (part == typeof(bool) || part == typeof(char) || part == typeof(decimal) || !(part.IsValueType || isView))
                throw new NotSupportedException($"Type '{kernel}' is not blittable: {type.Name}.{field.Name} is a {part.Name}.");
            if (!isView && !part.IsPrimitive && !part.IsEnum)
                RequireBlittable(kernel, part);
        }
    }
}

/// <summary>Work in order; here it is done at once.</summary>
public sealed class AcceleratorStream
{
    public void Synchronize()
    {
    }
}

/// <summary>Device memory, or an address that views count from.</summary>
public abstract class MemoryBuffer(Accelerator accelerator, long length, int elementSize) : IDisposable
{
    public Accelerator Accelerator { get; } = accelerator;

    public nint NativePtr { get; protected set; }

    public long Length { get; } = length;

    public int ElementSize { get; } = elementSize;

    /// <summary>Fills memory; the emulation's own buffers only.</summary>
    protected internal abstract void MemSet(AcceleratorStream stream, byte value, in ArrayView<byte> targetView);

    protected internal abstract void CopyTo(AcceleratorStream stream, in ArrayView<byte> sourceView, in ArrayView<byte> targetView);

    protected internal abstract void CopyFrom(AcceleratorStream stream, in ArrayView<byte> sourceView, in ArrayView<byte> targetView);

    protected abstract void DisposeAcceleratorObject(bool disposing);

    public void Dispose()
    {
        DisposeAcceleratorObject(true);
        GC.SuppressFinalize(this);
    }
}

internal sealed class AllocatedBuffer : MemoryBuffer
{
    private readonly MemoryBlock _block;

    public AllocatedBuffer(Accelerator accelerator, long length, int elementSize)
        : base(accelerator, length, elementSize)
    {
        _block = accelerator.Memory.Allocate(length * elementSize, Math.Min(elementSize, 4));
        NativePtr = _block.Address;
    }

    protected internal override void MemSet(AcceleratorStream stream, byte value, in ArrayView<byte> targetView) => throw NotHere();

    protected internal override void CopyTo(AcceleratorStream stream, in ArrayView<byte> sourceView, in ArrayView<byte> targetView) => throw NotHere();

    protected internal override void CopyFrom(AcceleratorStream stream, in ArrayView<byte> sourceView, in ArrayView<byte> targetView) => throw NotHere();

    protected override void DisposeAcceleratorObject(bool disposing) => Accelerator.Memory.Free(_block);

    private static NotSupportedException NotHere() => new("The emulation copies through addresses; see EmulatedDevice in the tests.");
}
