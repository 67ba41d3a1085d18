// --forward of the commands that answer: who encodes and decodes. Training has its own word for it in the run's configuration.
using System.CommandLine;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;

namespace IptNative.Cli.Terminal;

internal static class ForwardOption
{
    public static Option<string> Create()
    {
        var option = new Option<string>("--forward") { Description = "Who encodes and decodes: our own kernels, which auto takes too (faster at every shape and weight format measured), or ort: ONNX Runtime.", DefaultValueFactory = _ => "auto" };
        option.AcceptOnlyFromAmong("auto", "native", "ort");
        return option;
    }

    /// <summary>The option's value; null for auto.</summary>
    /// <exception cref="UsageException">ONNX Runtime was asked for bf16 products.</exception>
    public static ForwardEngine? Read(ParseResult parsed, Option<string> option, ComputeType compute)
    {
        string word = parsed.GetValue(option)!;
        ForwardEngine? engine = word == "auto" ? null : Enum.Parse<ForwardEngine>(word, ignoreCase: true);
        Require(engine, compute);
        return engine;
    }

    /// <summary>Refuses bf16 products of ONNX Runtime, which would be float32 ones under another name.</summary>
    /// <exception cref="UsageException">They were asked for.</exception>
    public static void Require(ForwardEngine? engine, ComputeType compute)
    {
        if (engine == ForwardEngine.Ort && compute == ComputeType.BF16)
            throw new UsageException("--forward ort --compute bf16: ONNX Runtime has no bf16 products on a CPU. Choose --forward native, or --compute f32.");
    }
}
