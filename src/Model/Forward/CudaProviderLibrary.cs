// Where ONNX Runtime's CUDA provider is, which CUDA it was linked against (for messages before anything is loaded), and its registration.
using System.Buffers.Binary;
using System.Text;
using IptNative.Kernels.Devices;
using Microsoft.ML.OnnxRuntime;

namespace IptNative.Model.Forward;

/// <summary>ONNX Runtime's CUDA provider as a file.</summary>
/// <param name="Path">Where it is.</param>
/// <param name="CudaMajor">The CUDA that its dependencies name; 0 where that cannot be read.</param>
public sealed record CudaProviderLibrary(string Path, int CudaMajor)
{
    private const int LongestName = 256;
    private const int MostSections = 1 << 16;
    private const int MostDependencies = 1 << 10;

    // A library is registered once in a process.
    private static readonly HashSet<string> Registered = [];

    /// <summary>Environment variable: where the library is, in place of the usual folders.</summary>
    public const string Variable = "IPTNATIVE_CUDA_PROVIDER";

    /// <summary>What to do where there is none.</summary>
    public const string Advice = "Build with the NuGet package Microsoft.ML.OnnxRuntime.Gpu 1.29, or put the library of the npm package com.github.asus4.onnxruntime.linux-x64-gpu 0.4.9 (for CUDA 13) beside the program; " + Variable + "=FILE names another place.";

    internal static string FileName => OperatingSystem.IsWindows() ? "onnxruntime_providers_cuda.dll" : "libonnxruntime_providers_cuda.so";

    /// <summary>Looks where <see cref="Variable"/> says, beside the program and where a NuGet package leaves native libraries.</summary>
    /// <returns>Null where there is none.</returns>
    /// <exception cref="FileNotFoundException">The variable names no file.</exception>
    public static CudaProviderLibrary? Find()
    {
        if (Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named)
            return File.Exists(named) ? new CudaProviderLibrary(System.IO.Path.GetFullPath(named), Major(Dependencies(named))) : throw new FileNotFoundException($"{Variable}: found no file '{named}', expected ONNX Runtime's CUDA provider. {Advice}", named);
        string rid = System.Runtime.InteropServices.RuntimeInformation.RuntimeIdentifier;
        foreach (string folder in (string[])["", System.IO.Path.Combine("runtimes", rid, "native")])
        {
            string path = System.IO.Path.Combine(AppContext.BaseDirectory, folder, FileName);
            if (File.Exists(path))
                return new CudaProviderLibrary(path, Major(Dependencies(path)));
        }
        return null;
    }

    /// <summary>Whether the driver can serve it.</summary>
    /// <param name="driver">What the driver says.</param>
    /// <returns>Empty, or what is wrong and what to install.</returns>
    public string Problem(CudaDriver driver)
    {
        ArgumentNullException.ThrowIfNull(driver);
        return CudaMajor == 0 || driver.Version / 1000 >= CudaMajor ? ""
            : $"{Path} needs CUDA {CudaMajor}, the driver serves {driver.VersionText}. Install a driver that serves CUDA {CudaMajor}.0 or newer, or a provider library for CUDA {driver.Version / 1000}.";
    }

    /// <summary>Makes ONNX Runtime load it; once in a process.</summary>
    /// <exception cref="NotSupportedException">It is no provider, one of another ONNX Runtime, or what it links to is missing.</exception>
    internal void Register()
    {
        lock (Registered)
        {
            if (Registered.Contains(Path))
                return;
            OrtEnv env = OrtEnv.Instance();
            try
            {
                env.RegisterExecutionProviderLibrary($"iptnative.cuda.{Registered.Count}", Path);
            }
            catch (OnnxRuntimeException e)
            {
                string[] linked = [.. Dependencies(Path).Where(name => name.StartsWith("libcu", StringComparison.Ordinal))];
                string libraries = linked.Length == 0 ? "" : $" and what it links to on the loader's path ({string.Join(", ", linked)})";
                throw new NotSupportedException($"registering {Path} with ONNX Runtime {env.GetVersionString()}: {e.Message}; expected the CUDA provider of this ONNX Runtime{libraries}. {(CudaMajor > 0 ? $"Install CUDA {CudaMajor}'s libraries and cuDNN 9, or take" : "Take")} another provider. {Advice} Or use --forward native.", e);
            }
            Registered.Add(Path);
        }
    }

    /// <summary>The CUDA that libraries belong to: libcublas.so.12 says 12.</summary>
    internal static int Major(IEnumerable<string> libraries)
    {
        foreach (string library in libraries)
        {
            int at = library.IndexOf(".so.", StringComparison.Ordinal);
            if (at > 0 && library.AsSpan(0, at) is "libcublas" or "libcublasLt" or "libcudart"
                && int.TryParse(library.AsSpan(at + 4).ToString().Split('.')[0], System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out int major))
                return major;
        }
        return 0;
    }

    /// <summary>The shared libraries that a 64-bit little-endian ELF file asks for (DT_NEEDED); none for any other file.</summary>
    /// <param name="path">The file.</param>
    internal static List<string> Dependencies(string path)
    {
        using FileStream file = File.OpenRead(path);
        var found = new List<string>();
        Span<byte> header = stackalloc byte[64];
        if (!ReadAt(file, 0, header) || !header[..6].SequenceEqual((ReadOnlySpan<byte>)[0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1]))
            return found;
        long sections = BinaryPrimitives.ReadInt64LittleEndian(header[40..]);
        int size = BinaryPrimitives.ReadUInt16LittleEndian(header[58..]), count = BinaryPrimitives.ReadUInt16LittleEndian(header[60..]);
        Span<byte> section = stackalloc byte[64];
        for (int i = 0; i < Math.Min(count, MostSections) && size >= 64; i++)
        {
            const int Dynamic = 6;
            if (!ReadAt(file, sections + (long)i * size, section) || BinaryPrimitives.ReadInt32LittleEndian(section[4..]) != Dynamic)
                continue;
            long offset = BinaryPrimitives.ReadInt64LittleEndian(section[24..]), length = BinaryPrimitives.ReadInt64LittleEndian(section[32..]);
            uint strings = BinaryPrimitives.ReadUInt32LittleEndian(section[40..]);
            if (!ReadAt(file, sections + (long)strings * size, section))
                break;
            ReadNames(file, offset, length, BinaryPrimitives.ReadInt64LittleEndian(section[24..]), found);
        }
        return found;
    }

    private static void ReadNames(FileStream file, long dynamic, long length, long strings, List<string> found)
    {
        const long Needed = 1;
        Span<byte> entry = stackalloc byte[16], name = stackalloc byte[LongestName];
        for (long at = 0; at + entry.Length <= length && found.Count < MostDependencies && ReadAt(file, dynamic + at, entry); at += entry.Length)
        {
            if (BinaryPrimitives.ReadInt64LittleEndian(entry) != Needed)
                continue;
            long place = strings + BinaryPrimitives.ReadInt64LittleEndian(entry[8..]);
            if (place < 0 || place >= file.Length)
                continue;
            file.Position = place;
            int end = name[..file.ReadAtLeast(name, name.Length, throwOnEndOfStream: false)].IndexOf((byte)0);
            if (end > 0)
                found.Add(Encoding.UTF8.GetString(name[..end]));
        }
    }

    private static bool ReadAt(FileStream file, long offset, Span<byte> target)
    {
        if (offset < 0 || offset > file.Length - target.Length)
            return false;
        file.Position = offset;
        file.ReadExactly(target);
        return true;
    }
}
