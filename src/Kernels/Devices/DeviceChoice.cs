// --device auto|cpu|cuda[:n]: read, and opened. Losing the GPU is an error unless `auto` was asked, and then it is said.
using System.Globalization;
#if ILGPU && !ILGPU_EMULATED
using IptNative.Kernels.Gpu;
#endif

namespace IptNative.Kernels.Devices;

/// <summary>What <c>--device</c> may ask for.</summary>
public enum DeviceKind
{
    /// <summary>The first GPU that can be used, else the CPU.</summary>
    Auto,

    /// <summary>The CPU.</summary>
    Cpu,

    /// <summary>A named GPU, or an error.</summary>
    Cuda,
}

/// <summary>A device as it was asked for.</summary>
/// <param name="Kind">Which sort.</param>
/// <param name="Ordinal">Which GPU; 0 where it does not matter.</param>
public readonly record struct DeviceChoice(DeviceKind Kind, int Ordinal)
{
    /// <summary>The spellings, for help texts.</summary>
    public const string Syntax = "auto|cpu|cuda[:n]";

    /// <summary>True where this build has kernels for GPUs.</summary>
    public static bool BuildHasCuda =>
#if ILGPU && !ILGPU_EMULATED
        true;
#else
        false;
#endif

    /// <summary>Reads a choice.</summary>
    /// <param name="text">auto, cpu, cuda or cuda:n.</param>
    /// <returns>The choice.</returns>
    /// <exception cref="ArgumentException">It is none of them; the message is for the user.</exception>
    public static DeviceChoice Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        switch (text)
        {
            case "auto": return new(DeviceKind.Auto, 0);
            case "cpu": return new(DeviceKind.Cpu, 0);
            case "cuda": return new(DeviceKind.Cuda, 0);
        }
        if (text.StartsWith("cuda:", StringComparison.Ordinal) && int.TryParse(text.AsSpan(5), NumberStyles.None, CultureInfo.InvariantCulture, out int ordinal))
            return new(DeviceKind.Cuda, ordinal);
        throw new ArgumentException($"--device: found '{text}', expected {Syntax}, for example cuda:0.");
    }

    /// <summary>Opens the device.</summary>
    /// <param name="threads">Threads of the CPU device; 0 takes the machine's cores.</param>
    /// <param name="compute">Precision of the operands of matrix products.</param>
    /// <param name="note">What the user should know: with <c>auto</c>, why it is the CPU. Empty otherwise.</param>
    /// <returns>The device; dispose it.</returns>
    /// <exception cref="NotSupportedException">A GPU was asked for and cannot be had; the message says why and what to do.</exception>
    public ComputeDevice Open(int threads, ComputeType compute, out string note)
    {
        note = "";
        if (Kind == DeviceKind.Cpu)
            return new CpuDevice(threads, compute);
        string problem = Problem(CudaDriver.Query());
#if ILGPU && !ILGPU_EMULATED
        if (problem.Length == 0)
            return CudaComputeDevice.Open(Ordinal, compute);
#endif
        if (Kind == DeviceKind.Cuda)
            throw new NotSupportedException($"--device {this}: {problem} Or use --device cpu.");
        note = UsingCpu(problem);
        return new CpuDevice(threads, compute);
    }

    /// <summary>What <c>auto</c> comes to, where that is the CPU.</summary>
    /// <returns>Why it is; empty where a GPU can be opened, and where the choice is not <c>auto</c>.</returns>
    public string Fallback()
    {
        string problem = Kind == DeviceKind.Auto ? Problem(CudaDriver.Query()) : "";
        return problem.Length > 0 ? UsingCpu(problem) : "";
    }

    /// <summary>Opens a GPU where one was asked for and can be had.</summary>
    /// <param name="compute">Precision of the operands of matrix products.</param>
    /// <param name="note">As <see cref="Open"/>.</param>
    /// <returns>The device, to be disposed; null: the CPU, whose device the caller makes with the threads that suit it.</returns>
    /// <exception cref="NotSupportedException">A GPU was asked for and cannot be had; the message says why and what to do.</exception>
    public ComputeDevice? OpenGpu(ComputeType compute, out string note)
    {
        note = "";
        if (Kind == DeviceKind.Cpu)
            return null;
        ComputeDevice device = Open(1, compute, out note);
        if (device is not CpuDevice)
            return device;
        device.Dispose();
        return null;
    }

    private static string UsingCpu(string problem) => $"--device auto: using the CPU. {problem}";

    /// <summary>Why no GPU can be opened, and what to do; empty where one can.</summary>
    internal string Problem(CudaDriver driver)
    {
        if (!BuildHasCuda)
            return "this build has no CUDA kernels, because ILGPU 1.5.3 was not on the package sources when it was built. Add a source that has it, delete eng/resolved.props and build again."
                + (driver.Problem.Length > 0 ? $" Besides, {driver.Problem}" : "");
        if (driver.Problem.Length > 0)
            return driver.Problem;
        int ordinal = Ordinal;
        return driver.Gpus.Any(gpu => gpu.Ordinal == ordinal) ? ""
            : $"there is no GPU {ordinal}; the driver shows {driver.Gpus.Count}: {driver.Describe()}.";
    }

    /// <summary>As it is written on the command line.</summary>
    /// <returns>auto, cpu or cuda:n.</returns>
    public override string ToString() => Kind switch
    {
        DeviceKind.Auto => "auto",
        DeviceKind.Cpu => "cpu",
        _ => $"cuda:{Ordinal}",
    };
}
