// What NVIDIA's driver says of this machine, asked directly: `doctor` and `--device` need it also where the program was built without CUDA kernels.
// Deliberately no context and no memory: asking changes nothing.
using System.Runtime.InteropServices;
using System.Text;

namespace IptNative.Kernels.Devices;

/// <summary>One NVIDIA GPU.</summary>
/// <param name="Ordinal">Its number in <c>--device cuda:n</c>.</param>
/// <param name="Name">As the driver calls it.</param>
/// <param name="Major">Compute capability, before the point.</param>
/// <param name="Minor">Compute capability, after the point.</param>
/// <param name="MemoryBytes">All of its memory.</param>
/// <param name="Multiprocessors">Streaming multiprocessors.</param>
public sealed record CudaGpu(int Ordinal, string Name, int Major, int Minor, long MemoryBytes, int Multiprocessors)
{
    /// <summary>True where matrix products may use bf16 and tf32 tensor cores: compute capability 8.0 or more.</summary>
    public bool HasTensorCores => Major >= 8;
}

/// <summary>The driver and the GPUs that it shows.</summary>
/// <param name="Version">CUDA version times 1000 that the driver serves (13000 is 13.0); 0 without a driver.</param>
/// <param name="Gpus">In the driver's order; CUDA_VISIBLE_DEVICES hides some.</param>
/// <param name="Problem">Why there is nothing to use, and what to do; empty where there is.</param>
public sealed unsafe record CudaDriver(int Version, IReadOnlyList<CudaGpu> Gpus, string Problem)
{
    /// <summary>What ILGPU's code needs: CUDA 12.0, PTX ISA 8.0.</summary>
    public const int OldestVersion = 12000;

    private const int MajorAttribute = 75;
    private const int MinorAttribute = 76;
    private const int MultiprocessorAttribute = 16;

    /// <summary>The library's names, best first; most installations lack the unversioned one.</summary>
    internal static string[] LibraryNames => OperatingSystem.IsWindows() ? ["nvcuda.dll"] : ["libcuda.so.1", "libcuda.so", "/usr/lib/wsl/lib/libcuda.so.1"];

    /// <summary>12.8 for 12080.</summary>
    public string VersionText => $"{Version / 1000}.{Version % 1000 / 10}";

    /// <summary>Asks the driver.</summary>
    /// <returns>What it says; never throws for a missing or broken driver.</returns>
    public static CudaDriver Query() => Query(LibraryNames);

    internal static CudaDriver Query(string[] names)
    {
        nint library = 0;
        if (!names.Any(name => NativeLibrary.TryLoad(name, out library)))
            return new CudaDriver(0, [], $"NVIDIA's driver is not installed ({names[0]} was not found). For a GPU install the driver; the CPU device needs none.");
        // The library stays loaded: ILGPU and ONNX Runtime use the same one.
        try
        {
            return Ask(library);
        }
        catch (EntryPointNotFoundException e)
        {
            return new CudaDriver(0, [], $"NVIDIA's driver is too old or broken ({e.Message}). Install a driver that serves CUDA 12.0 or newer.");
        }
    }

    private static CudaDriver Ask(nint library)
    {
        var init = (delegate* unmanaged<uint, int>)NativeLibrary.GetExport(library, "cuInit");
        var driverVersion = (delegate* unmanaged<int*, int>)NativeLibrary.GetExport(library, "cuDriverGetVersion");
        var deviceCount = (delegate* unmanaged<int*, int>)NativeLibrary.GetExport(library, "cuDeviceGetCount");
        var deviceGet = (delegate* unmanaged<int*, int, int>)NativeLibrary.GetExport(library, "cuDeviceGet");
        var deviceName = (delegate* unmanaged<byte*, int, int, int>)NativeLibrary.GetExport(library, "cuDeviceGetName");
        var deviceMemory = (delegate* unmanaged<nuint*, int, int>)NativeLibrary.GetExport(library, "cuDeviceTotalMem_v2");
        var deviceAttribute = (delegate* unmanaged<int*, int, int, int>)NativeLibrary.GetExport(library, "cuDeviceGetAttribute");
        int version = 0, count = 0;
        driverVersion(&version);
        int status = init(0);
        if (status != 0)
            return new CudaDriver(version, [], $"NVIDIA's driver is there but did not start: {Explain(status)}.");
        status = deviceCount(&count);
        if (status != 0 || count == 0)
            return new CudaDriver(version, [], $"NVIDIA's driver shows no GPU{(status == 0 ? "" : $" ({Explain(status)})")}. Is it hidden by CUDA_VISIBLE_DEVICES, or by the container?");
        var gpus = new List<CudaGpu>(count);
        byte* name = stackalloc byte[256];
        for (int ordinal = 0; ordinal < count; ordinal++)
        {
            int device = 0, major = 0, minor = 0, multiprocessors = 0;
            nuint memory = 0;
            new Span<byte>(name, 256).Clear();
            if (deviceGet(&device, ordinal) != 0 || deviceName(name, 255, device) != 0 || deviceMemory(&memory, device) != 0)
                continue;
            deviceAttribute(&major, MajorAttribute, device);
            deviceAttribute(&minor, MinorAttribute, device);
            deviceAttribute(&multiprocessors, MultiprocessorAttribute, device);
            gpus.Add(new CudaGpu(ordinal, Marshal.PtrToStringUTF8((nint)name) ?? "", major, minor, (long)memory, multiprocessors));
        }
        string problem = version < OldestVersion
            ? $"NVIDIA's driver serves CUDA {version / 1000}.{version % 1000 / 10}; the kernels need 12.0 or newer. Install a newer driver."
            : gpus.Count == 0 ? "NVIDIA's driver counts GPUs but describes none. Restart the machine or install the driver anew." : "";
        return new CudaDriver(version, gpus, problem);
    }

    private static string Explain(int status) => status switch
    {
        2 => "out of memory (2)",
        3 => "not initialised (3)",
        34 => "only a stub of the driver is loaded (34): remove the toolkit's stubs folder from LD_LIBRARY_PATH",
        100 => "no CUDA-capable device (100)",
        101 => "invalid device (101)",
        802 => "the NVSwitch fabric is not ready (802)",
        803 => "driver and kernel module are of different versions (803): restart the machine",
        804 => "forward compatibility is not supported on this GPU (804)",
        999 => "unknown error (999): restart the machine, or check the device files /dev/nvidia*",
        _ => $"CUDA error {status}",
    };

    /// <summary>Names and numbers, a GPU a line.</summary>
    /// <returns>For messages.</returns>
    public string Describe()
    {
        var text = new StringBuilder();
        foreach (CudaGpu gpu in Gpus)
            text.Append(text.Length == 0 ? "" : "; ").Append($"cuda:{gpu.Ordinal} {gpu.Name}, compute capability {gpu.Major}.{gpu.Minor}, {gpu.MemoryBytes / (double)(1 << 30):0.0} GiB, {gpu.Multiprocessors} multiprocessors");
        return text.ToString();
    }
}
