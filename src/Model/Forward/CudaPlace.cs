// ONNX Runtime's CUDA provider on our device's memory: its sessions read our weights and write our tape where they lie. From NuGet the provider is part of ONNX
// Runtime and takes our stream; as a library of its own (the npm build) it is registered and has a stream that we wait for, and that waits for us.
// No machine with a GPU has run this yet (docs/decisions/gpu.md); `iptnative doctor --sharing` proves it or says what is wrong.
using System.Globalization;
using IptNative.Kernels.Devices;
using Microsoft.ML.OnnxRuntime;

namespace IptNative.Model.Forward;

/// <summary>A GPU's memory in the driver's primary context.</summary>
internal sealed class CudaPlace : RuntimePlace
{
    private const string BuiltIn = "CUDAExecutionProvider";

    private readonly ComputeDevice _device;
    private readonly CudaPlacement _cuda;
    private readonly OrtEpDevice? _plugin;
    private readonly OrtMemoryInfo _memory;

    private CudaPlace(ComputeDevice device, CudaPlacement cuda, OrtEpDevice? plugin)
    {
        _device = device;
        _cuda = cuda;
        _plugin = plugin;
        // Kept for the process' life: values are made with it as long as the place is used, and there is one for each GPU.
        _memory = plugin?.GetMemoryInfo(OrtDeviceMemoryType.DEFAULT) ?? new OrtMemoryInfo("Cuda", OrtAllocatorType.DeviceAllocator, cuda.Ordinal, OrtMemType.Default);
    }

    public override string Name => _device.Name;

    public override string Description => _plugin is null ? "CUDA provider built into ONNX Runtime, on our stream" : "CUDA provider registered as a library, on a stream of its own: each waits for the other";

    protected override OrtMemoryInfo Memory => _memory;

    /// <summary>Finds the provider for a device.</summary>
    /// <param name="device">One of CUDA's.</param>
    /// <exception cref="NotSupportedException">The device is in another context, or there is no provider that works; the message says what was looked for, what was found and what to do.</exception>
    public static CudaPlace Open(ComputeDevice device)
    {
        CudaPlacement cuda = device.Cuda ?? throw new ArgumentException($"ONNX Runtime's CUDA provider: found {device.Name}, expected a CUDA device.", nameof(device));
        if (!cuda.IsShared)
            throw new NotSupportedException($"a forward pass by ONNX Runtime on {device.Name}: the device is in a CUDA context of its own ({cuda.NotShared}), expected the driver's primary context, the only one whose memory ONNX Runtime can read. Use --forward native.");
        OrtEnv env = OrtEnv.Instance();
        string[] providers = env.GetAvailableProviders();
        if (providers.Contains(BuiltIn, StringComparer.Ordinal))
            return new CudaPlace(device, cuda, null);
        CudaProviderLibrary library = Choose(device.Name, providers, CudaProviderLibrary.Find(), CudaDriver.Query());
        library.Register();
        return new CudaPlace(device, cuda, Pick(device.Name, library, env.GetEpDevices(), cuda.Ordinal));
    }

    /// <summary>Whether the library that was found can be used at all.</summary>
    /// <exception cref="NotSupportedException">There is none, or the driver is too old for it.</exception>
    internal static CudaProviderLibrary Choose(string device, IReadOnlyList<string> providers, CudaProviderLibrary? library, CudaDriver driver)
    {
        string attempt = $"a forward pass by ONNX Runtime on {device}";
        if (library is null)
            throw new NotSupportedException($"{attempt}: this ONNX Runtime has {string.Join(", ", providers)}, and {CudaProviderLibrary.FileName} is not beside the program ({AppContext.BaseDirectory}); expected a CUDA provider. {CudaProviderLibrary.Advice} Or use --forward native.");
        string problem = library.Problem(driver);
        return problem.Length == 0 ? library : throw new NotSupportedException($"{attempt}: {problem} Or use --forward native.");
    }

    private static OrtEpDevice Pick(string name, CudaProviderLibrary library, IReadOnlyList<OrtEpDevice> devices, int ordinal)
    {
        OrtEpDevice[] gpus = [.. devices.Where(d => d.HardwareDevice.Type == OrtHardwareDeviceType.GPU && d.EpName.Contains("CUDA", StringComparison.OrdinalIgnoreCase))];
        // Each says its number; where one does not, they are in the driver's order.
        return gpus.FirstOrDefault(d => d.EpOptions.Entries.TryGetValue("device_id", out string? id) && id == ordinal.ToString(CultureInfo.InvariantCulture))
            ?? (ordinal < gpus.Length ? gpus[ordinal] : throw new NotSupportedException($"a forward pass by ONNX Runtime on {name}: {library.Path} was registered and shows {gpus.Length} CUDA devices ({string.Join(", ", devices.Select(d => d.EpName).Distinct())}), expected number {ordinal} among them. Do CUDA_VISIBLE_DEVICES and the container show the same GPUs to all libraries? Or use --forward native."));
    }

    protected override void Configure(SessionOptions session)
    {
        // A node that the provider lacks would be computed on the CPU, with copies both ways, and nobody would know.
        session.AddSessionConfigEntry("session.disable_cpu_ep_fallback", "1");
        Dictionary<string, string> options = Options(_cuda, _device.FreeBytes, _device.Compute, isPlugin: _plugin is not null);
        if (_plugin is not null)
        {
            session.AppendExecutionProvider(OrtEnv.Instance(), [_plugin], options);
            return;
        }
        using var cuda = new OrtCUDAProviderOptions();
        cuda.UpdateOptions(options);
        session.AppendExecutionProvider_CUDA(cuda);
    }

    public override void Configure(RunOptions run)
    {
        // On our own stream everything is in order as it was handed over; without this each run would end in a wait.
        if (_plugin is null)
            run.AddRunConfigEntry("disable_synchronize_execution_providers", "1");
    }

    public override void Begin()
    {
        if (_plugin is not null)
            _device.Synchronize();
    }

    public override void End(OrtIoBinding binding)
    {
        // The run has waited for its stream already where the provider does as it is asked; this says it in so many words.
        if (_plugin is not null)
            binding.SynchronizeBoundOutputs();
    }

    /// <summary>The provider's options.</summary>
    /// <param name="cuda">The device.</param>
    /// <param name="free">Bytes that are free there now: the arena takes what is asked for and no more than that.</param>
    /// <param name="compute">What products may round their operands to.</param>
    /// <param name="isPlugin">A registered library is told its device otherwise, and has a stream of its own.</param>
    internal static Dictionary<string, string> Options(CudaPlacement cuda, long? free, ComputeType compute, bool isPlugin)
    {
        var options = new Dictionary<string, string>
        {
            // An arena that doubles holds up to twice what a pass needs.
            ["arena_extend_strategy"] = "kSameAsRequested",
            // Its default is 1, which rounds float32 operands to 11 bits; asked for bf16 products, three bits more than asked for.
            ["use_tf32"] = compute == ComputeType.BF16 ? "1" : "0",
        };
        if (free is { } bytes)
            options["gpu_mem_limit"] = bytes.ToString(CultureInfo.InvariantCulture);
        if (isPlugin)
            return options;
        options["device_id"] = cuda.Ordinal.ToString(CultureInfo.InvariantCulture);
        options["user_compute_stream"] = ((nuint)cuda.Stream).ToString(CultureInfo.InvariantCulture);
        return options;
    }
}
