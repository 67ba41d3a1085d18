// Puts ILGPU's accelerator into the driver's primary context, where CUDA's runtime and with it ONNX Runtime live, so that each reads the other's memory.
// ILGPU has no call for it: the handle that it makes current before every call is changed, which only the version that was read is trusted with.
// Deliberately not undone in silence: where a step fails, the accelerator stays in its own context, and the device says why.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Gpu;

/// <summary>The primary context of a GPU, retained for one accelerator.</summary>
/// <remarks>
/// The accelerator makes a context of its own in its constructor. Nothing is in it when <see cref="Adopt"/> runs (its default stream is handle 0 of whatever
/// context is current); it stays, empty, until <see cref="Leave"/> hands it back for the accelerator to destroy: memory, kernels and streams are freed
/// before that, in the primary context, which is still current then.
/// </remarks>
internal sealed unsafe class PrimaryContext : IDisposable
{
    /// <summary>Whose setter of the accelerator's handle was read.</summary>
    internal static readonly Version Known = new(1, 5, 3);

    private readonly CudaAccelerator _accelerator;
    private readonly nint _own;
    private readonly delegate* unmanaged<int, int> _release;
    private readonly int _device;
    private bool _released;

    private PrimaryContext(CudaAccelerator accelerator, int device, delegate* unmanaged<int, int> release)
    {
        _accelerator = accelerator;
        _own = accelerator.NativePtr;
        _device = device;
        _release = release;
    }

    /// <summary>Moves an accelerator that has allocated nothing yet.</summary>
    /// <param name="accelerator">Fresh from its constructor.</param>
    /// <param name="notShared">Why it stays where it is; empty otherwise.</param>
    /// <returns>Null where it stays where it is.</returns>
    public static PrimaryContext? Adopt(CudaAccelerator accelerator, out string notShared)
    {
        notShared = Refusal(typeof(Context).Assembly.GetName().Version, Environment.GetEnvironmentVariable(CudaPlacement.Variable));
        if (notShared.Length > 0)
            return null;
        nint library = 0;
        if (!CudaDriver.LibraryNames.Any(name => NativeLibrary.TryLoad(name, out library))
            || !NativeLibrary.TryGetExport(library, "cuDevicePrimaryCtxRetain", out nint retain)
            || !(NativeLibrary.TryGetExport(library, "cuDevicePrimaryCtxRelease_v2", out nint release) || NativeLibrary.TryGetExport(library, "cuDevicePrimaryCtxRelease", out release))
            || !NativeLibrary.TryGetExport(library, "cuDeviceGet", out nint deviceGet)
            || !NativeLibrary.TryGetExport(library, "cuCtxSetCurrent", out nint setCurrent))
        {
            notShared = "the driver's library lacks the calls for its primary context: install a newer driver";
            return null;
        }
        int device = 0;
        nint primary = 0;
        int status = ((delegate* unmanaged<int*, int, int>)deviceGet)(&device, accelerator.DeviceId);
        if (status == 0)
            status = ((delegate* unmanaged<nint*, int, int>)retain)(&primary, device);
        if (status != 0)
        {
            notShared = $"the driver did not hand out its primary context (CUDA error {status})";
            return null;
        }
        var held = new PrimaryContext(accelerator, device, (delegate* unmanaged<int, int>)release);
        accelerator.Bind();
        SetHandle(accelerator, primary);
        // Bind does nothing on this thread any more: it takes the accelerator for bound.
        status = ((delegate* unmanaged<nint, int>)setCurrent)(primary);
        if (status == 0)
            return held;
        notShared = $"the driver's primary context could not be made current (CUDA error {status})";
        held.Leave();
        CudaException.ThrowIfFailed((CudaError)((delegate* unmanaged<nint, int>)setCurrent)(accelerator.NativePtr));
        held.Dispose();
        return null;
    }

    /// <summary>Why an accelerator of that ILGPU is left where it is.</summary>
    /// <param name="found">ILGPU's version.</param>
    /// <param name="wanted">The environment's word.</param>
    /// <returns>Empty where it may be moved.</returns>
    internal static string Refusal(Version? found, string? wanted) =>
        wanted == "own" ? $"{CudaPlacement.Variable} says own"
        : !string.IsNullOrEmpty(wanted) && wanted != "primary" ? $"{CudaPlacement.Variable} is '{wanted}', expected primary or own"
        : found is null || (found.Major, found.Minor, found.Build) != (Known.Major, Known.Minor, Known.Build)
            ? $"this is ILGPU {found?.ToString(3) ?? "of unknown version"}, and only {Known} is known to bear being put into another context: build with ILGPU {Known}"
            : "";

    /// <summary>Hands the accelerator its own context back, to be destroyed with it. The primary one stays current, so that what the accelerator still frees is freed there.</summary>
    public void Leave()
    {
        _accelerator.Bind();
        SetHandle(_accelerator, _own);
    }

    /// <summary>Gives the primary context back; only after the accelerator is disposed.</summary>
    public void Dispose()
    {
        if (_released)
            return;
        _released = true;
        CudaException.ThrowIfFailed((CudaError)_release(_device));
    }

    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "set_NativePtr")]
    internal static extern void SetHandle(Accelerator accelerator, nint value);
}
