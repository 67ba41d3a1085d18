// The --device option, one wording for every command that computes.
using System.CommandLine;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;

namespace IptNative.Cli.Terminal;

/// <summary>Where a command computes: auto, cpu, or a GPU.</summary>
internal sealed class DeviceOption : Option<string>
{
    public DeviceOption()
        : base("--device")
    {
        Description = $"Where it computes, {DeviceChoice.Syntax}: auto takes a GPU that can be used, else the CPU, and says so; losing a GPU that was named is an error.";
        DefaultValueFactory = _ => "cpu";
    }

    /// <summary>The device asked for.</summary>
    /// <param name="parsed">The command line.</param>
    /// <exception cref="UsageException">It is no device.</exception>
    public DeviceChoice Of(ParseResult parsed)
    {
        try
        {
            return DeviceChoice.Parse(parsed.GetValue(this)!); // It has a default.
        }
        catch (ArgumentException e)
        {
            throw new UsageException(e.Message);
        }
    }

    /// <summary>Opens the device that was asked for; says which it is where the user left it open.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="threads">CPU threads; 0 takes every core.</param>
    /// <param name="compute">What products multiply.</param>
    /// <returns>Dispose it.</returns>
    /// <exception cref="UsageException">It is no device.</exception>
    /// <exception cref="NotSupportedException">A GPU was asked for and cannot be had.</exception>
    public ComputeDevice Open(ParseResult parsed, int threads, ComputeType compute)
    {
        ComputeDevice device = Of(parsed).Open(threads, compute, out string note);
        Say(note);
        return device;
    }

    /// <summary>Opens a GPU where one was asked for and can be had; says where <c>auto</c> comes to the CPU.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="compute">What products multiply.</param>
    /// <param name="forward">Who encodes and decodes; ONNX Runtime does so on the CPU only.</param>
    /// <returns>Dispose it; null: the CPU, whose device the caller makes with the threads that suit it.</returns>
    /// <exception cref="UsageException">It is no device, or a GPU and ONNX Runtime exclude each other.</exception>
    /// <exception cref="NotSupportedException">A GPU was asked for and cannot be had.</exception>
    public ComputeDevice? OpenGpu(ParseResult parsed, ComputeType compute, ForwardEngine? forward = null)
    {
        DeviceChoice choice = Of(parsed);
        if (choice.Kind == DeviceKind.Cpu)
            return null;
        if (forward == ForwardEngine.Ort)
            throw new UsageException($"--device {choice} --forward ort: ONNX Runtime answers on the CPU only. Choose --forward native, or --device cpu.");
        ComputeDevice? device = choice.OpenGpu(compute, out string note);
        Say(note);
        return device;
    }

    private static void Say(string note)
    {
        if (note.Length > 0)
            Console.Error.WriteLine($"iptnative: {note}");
    }
}
