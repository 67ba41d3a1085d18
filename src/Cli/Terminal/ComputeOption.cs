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

    /// <summary>The option's value; it has been checked.</summary>
    public static ComputeType Parse(string word) => Enum.Parse<ComputeType>(word, ignoreCase: true);
}
