// Where cuBLAS is, if it is anywhere. Deliberately not its use: Gpu/Cuda/CuBlas.cs.
using System.Runtime.InteropServices;

namespace IptNative.Kernels.Devices;

/// <summary>A loaded cuBLAS, 11 to 13.</summary>
/// <param name="Handle">The library's handle.</param>
/// <param name="Name">As it was found.</param>
/// <param name="Version">Its own version: 12.8.4.</param>
public sealed unsafe record CuBlasLibrary(nint Handle, string Name, string Version)
{
    private static readonly int[] Majors = [13, 12, 11];

    /// <summary>Looks where the system's loader looks, and in the folder of CUDA_PATH.</summary>
    /// <returns>Null where there is none.</returns>
    public static CuBlasLibrary? Find()
    {
        foreach (string name in Candidates())
        {
            if (!NativeLibrary.TryLoad(name, out nint handle))
                continue;
            if (NativeLibrary.TryGetExport(handle, "cublasGetProperty", out nint property) && NativeLibrary.TryGetExport(handle, "cublasGemmStridedBatchedEx", out _))
            {
                var get = (delegate* unmanaged<int, int*, int>)property;
                int major = 0, minor = 0, patch = 0;
                if (get(0, &major) == 0 && get(1, &minor) == 0 && get(2, &patch) == 0)
                    return new CuBlasLibrary(handle, name, $"{major}.{minor}.{patch}");
            }
            NativeLibrary.Free(handle);
        }
        return null;
    }

    private static IEnumerable<string> Candidates()
    {
        string? toolkit = Environment.GetEnvironmentVariable("CUDA_PATH");
        foreach (int major in Majors)
        {
            string name = OperatingSystem.IsWindows() ? $"cublas64_{major}.dll" : $"libcublas.so.{major}";
            yield return name;
            if (!string.IsNullOrEmpty(toolkit))
                yield return Path.Combine(toolkit, OperatingSystem.IsWindows() ? "bin" : "lib64", name);
            else if (!OperatingSystem.IsWindows())
                yield return $"/usr/local/cuda/lib64/{name}";
        }
    }
}
