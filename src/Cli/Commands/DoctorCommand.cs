// `iptnative doctor`: what this build is made of, what devices it sees, what is missing to get more.
using System.CommandLine;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using IptNative.Cli.Terminal;
using IptNative.Kernels.Devices;
using IptNative.Model.Forward;

namespace IptNative.Cli.Commands;

internal static class DoctorCommand
{
    internal readonly record struct Finding(string Item, string Found, string Missing);

    public static Command Create()
    {
        var asJson = new Option<bool>("--json") { Description = "One JSON object instead of a table." };
        var sharing = new Option<bool>("--sharing") { Description = "Prove that ONNX Runtime and our kernels share the memory of --device: each computes in turn on what the other has just written. Exit code 1 where a number is wrong." };
        var device = new DeviceOption();
        var command = new Command("doctor", "Show what this build uses, what devices it sees and what is missing to get more.") { asJson, sharing, device };
        command.WithExamples("iptnative doctor", "iptnative doctor --json", "iptnative doctor --sharing --device cuda:0");
        command.SetRun((parsed, _) =>
        {
            if (parsed.GetValue(sharing))
                return Sharing(parsed, device, parsed.GetValue(asJson));
            if (parsed.GetResult(device) is { Implicit: false })
                throw new UsageException("doctor: found --device without --sharing, expected both or neither: every device is listed.");
            List<Finding> findings = [.. Examine()];
            using TextWriter output = StandardOutput.Open();
            if (parsed.GetValue(asJson))
            {
                JsonOutput.WriteObject(output, json =>
                {
                    foreach (Finding finding in findings)
                    {
                        json.WriteStartObject(finding.Item);
                        json.WriteString("found", finding.Found);
                        json.WriteString("missing", finding.Missing);
                        json.WriteEndObject();
                    }
                }, indented: true);
            }
            else
            {
                foreach (Finding finding in findings)
                {
                    output.WriteLine($"{finding.Item,-15}{finding.Found}");
                    if (finding.Missing.Length > 0)
                        output.WriteLine($"{"",-15}  -> {finding.Missing}");
                }
            }
            return ExitCode.Done;
        });
        return command;
    }

    private static IEnumerable<Finding> Examine()
    {
        yield return new("iptnative", typeof(Program).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown", "");
        yield return new(".NET", $"{RuntimeInformation.FrameworkDescription}, {RuntimeInformation.RuntimeIdentifier}", "");
        yield return new("CPU", $"{Environment.ProcessorCount} cores, SIMD {SimdWidth()} bits", Vector256.IsHardwareAccelerated ? "" : "No AVX2: kernels run at a fraction of their speed. Check that DOTNET_EnableHWIntrinsic is not 0.");
        yield return new("bf16 products", MachineCodeStatus.Current.Detail, "");
        long memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        yield return new("memory", $"{memory / (double)(1 << 30):0.0} GiB available to this process", "");
        yield return OnnxRuntime();
        yield return BuildOption("ILGPU", "IlgpuSource", "Not on the package sources at build time: no CUDA device in this build. Add a source that has ILGPU 1.5.3, delete eng/resolved.props and run again.");
        yield return BuildOption("tokenizer", "TokenizersSource", "");
        CudaProviderLibrary? provider = null;
        string problem = "";
        try
        {
            provider = CudaProviderLibrary.Find();
        }
        catch (FileNotFoundException e)
        {
            problem = e.Message;
        }
        foreach (Finding finding in Gpus(CudaDriver.Query(), CuBlasLibrary.Find(), provider, DeviceChoice.BuildHasCuda, problem))
            yield return finding;
    }

    // Small where a pass is done when it returns; on a GPU large enough that it still runs when the next is handed over.
    private static int Sharing(ParseResult parsed, DeviceOption option, bool asJson)
    {
        using ComputeDevice device = option.Open(parsed, 1, ComputeType.F32);
        SharingProof proof = RuntimeSharing.Prove(device, device is CpuDevice ? 1 << 16 : 1 << 22);
        using TextWriter output = StandardOutput.Open();
        if (asJson)
        {
            JsonOutput.WriteObject(output, json =>
            {
                json.WriteString("device", proof.Device);
                json.WriteString("provider", proof.Provider);
                json.WriteBoolean("shared", proof.Wrong == 0);
                json.WriteNumber("rounds", proof.Rounds);
                json.WriteNumber("numbers", proof.Elements);
                json.WriteNumber("wrong", proof.Wrong);
                json.WriteString("first_wrong", proof.First);
                if (proof.TakenBytes is { } bytes)
                    json.WriteNumber("provider_bytes", bytes);
                json.WriteNumber("seconds", proof.Seconds);
            }, indented: true);
        }
        else
        {
            output.WriteLine($"{"device",-15}{proof.Device}");
            output.WriteLine($"{"provider",-15}{proof.Provider}{(proof.TakenBytes is { } bytes ? $"; it took {Tuning.Memory.ByteSize.Text(bytes)}" : "")}");
            output.WriteLine(string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{"passes",-15}{proof.Rounds} of each in turn over {proof.Elements} numbers, {proof.Seconds:0.000} s"));
            output.WriteLine($"{"shared",-15}{(proof.Wrong == 0 ? "yes: every number is what it must be, bit for bit" : $"no: {proof.Wrong} of {proof.Elements} numbers are wrong; {proof.First}")}");
        }
        return proof.Wrong == 0 ? ExitCode.Done
            : ExitCode.Report($"doctor --sharing: ONNX Runtime and our kernels do not share {proof.Device} as they must. Do not use --forward ort there; the default, --forward native, needs no sharing.", ExitCode.Failed);
    }

    /// <summary>Driver, each GPU, cuBLAS, ONNX Runtime's CUDA provider, and how memory is shared with it.</summary>
    internal static IEnumerable<Finding> Gpus(CudaDriver driver, CuBlasLibrary? cublas, CudaProviderLibrary? provider, bool buildHasCuda, string providerProblem = "")
    {
        bool any = driver.Gpus.Count > 0;
        yield return new("CUDA driver", driver.Version == 0 ? "not found" : $"serves CUDA {driver.VersionText}", driver.Problem);
        foreach (CudaGpu gpu in driver.Gpus)
        {
            yield return new($"cuda:{gpu.Ordinal}", $"{gpu.Name}, compute capability {gpu.Major}.{gpu.Minor}, {gpu.MemoryBytes / (double)(1 << 30):0.0} GiB, {gpu.Multiprocessors} multiprocessors",
                gpu.HasTensorCores ? "" : "No bf16 and tf32 tensor cores (they need compute capability 8.0): matrix products run in f32 on ordinary cores.");
        }
        yield return new("cuBLAS", cublas is null ? "not found" : $"{cublas.Version} ({cublas.Name})",
            cublas is not null ? "" : (any ? "Matrix products run on our own kernels. For the vendor's install" : "For the vendor's matrix products on a GPU install") + " cuBLAS 11, 12 or 13, the one that the driver serves (libcublas.so.12 on the loader's path).");
        yield return new("CUDA provider", provider is null ? "not found" : $"{provider.Path}{(provider.CudaMajor > 0 ? $", for CUDA {provider.CudaMajor}" : "")}",
            providerProblem.Length > 0 ? providerProblem : provider is null ? (any ? "ONNX Runtime computes on the CPU. " : "For --forward ort on a GPU: ") + CudaProviderLibrary.Advice : any ? provider.Problem(driver) : "");
        // Nothing is opened here: what a device does when it is, and whether it works on this machine, is --sharing's to show.
        bool own = Environment.GetEnvironmentVariable(CudaPlacement.Variable) == "own";
        yield return new("CUDA context", !any ? "none: nothing to share with ONNX Runtime"
            : !buildHasCuda ? "none: this build has no CUDA kernels"
            : own ? $"ILGPU's own, because {CudaPlacement.Variable} says so: --forward ort is refused on a GPU"
            : provider is null ? "the driver's primary one, which ONNX Runtime would share if it had a CUDA provider"
            : "the driver's primary one, shared with ONNX Runtime: one copy of the weights, bound as they lie",
            any && buildHasCuda && !own && provider is not null ? "Proven by: iptnative doctor --sharing --device cuda:0" : "");
    }

    private static Finding OnnxRuntime()
    {
        string source = Metadata("OnnxRuntimeSource") == "nuget" ? "NuGet package" : "compiled from its C# sources (npm package)";
        try
        {
            var info = OnnxRuntimeInfo.Query();
            bool cuda = info.Providers.Any(p => p.StartsWith("CUDA", StringComparison.Ordinal));
            return new("ONNX Runtime", $"{info.Version}, {source}; providers: {string.Join(", ", info.Providers)}",
                cuda ? "" : "No CUDA provider inside: its passes run on the CPU, unless a library of one is found (CUDA provider).");
        }
        catch (Exception e) when (e is DllNotFoundException or TypeInitializationException)
        {
            return new("ONNX Runtime", $"native library not loaded ({e.GetBaseException().Message})", "Delete .deps and artifacts and run ./iptnative again.");
        }
    }

    private static Finding BuildOption(string item, string key, string missing)
    {
        bool nuget = Metadata(key) == "nuget";
        return item == "tokenizer"
            ? new(item, nuget ? "our SentencePiece reader (default); Microsoft.ML.Tokenizers with --tokenizer ml" : "our SentencePiece reader", "")
            : new(item, nuget ? "NuGet package" : "not in this build", nuget ? "" : missing);
    }

    private static string? Metadata(string key) =>
        typeof(Program).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().FirstOrDefault(a => a.Key == key)?.Value;

    private static int SimdWidth() =>
        Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated ? 256 : Vector128.IsHardwareAccelerated ? 128 : 0;
}
