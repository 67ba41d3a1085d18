// --compute, wherever products can be told their precision.
using System.CommandLine;
using IptNative.Kernels.Devices;

namespace IptNative.Cli.Terminal;

internal static class ComputeOption
{
    public static Option<string> Create()
    {
        var option = new Option<string>("--compute") { Description = "What the frozen model's products multiply: f32 or bf16. Sums, norms, softmax and loss are float32 in either.", DefaultValueFactory = _ => "f32" };
        option.AcceptOnlyFromAmong("f32", "bf16");
        return option;
    }

    /// <summary>The option's value; it has been checked. Says once how bf16 will be computed.</summary>
    public static ComputeType Read(ParseResult parsed, Option<string> option)
    {
        ComputeType compute = Enum.Parse<ComputeType>(parsed.GetValue(option)!, ignoreCase: true);
        if (compute == ComputeType.BF16)
            Console.Error.WriteLine($"iptnative: bf16 products: {MachineCodeStatus.Current.Detail}.");
        return compute;
    }
}
