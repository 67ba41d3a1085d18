// The command line of the benchmarks: a name and a few options that all of them share.
using System.Globalization;

namespace IptNative.Bench;

/// <summary>What was asked for.</summary>
/// <param name="Bench">Which benchmark.</param>
/// <param name="Threads">Threads that compute.</param>
/// <param name="Repeats">Timed passes of each line; 0: the benchmark's own number.</param>
/// <param name="Only">Run the lines whose shape contains this; empty: all.</param>
/// <param name="ToLedger">Append what was measured to bench/results.csv.</param>
/// <param name="Model">A checkpoint instead of the benchmark's own; empty: its own.</param>
internal sealed record BenchOptions(string Bench, int Threads, int Repeats, string Only, bool ToLedger, string Model)
{
    public const string Usage = "usage: iptnative-bench gemm|attention|fidelity|forward|load|serve|side|soak|start|step|tokenizer|ipt [--threads N] [--repeats N] [--only TEXT] [--model PATH] [--ledger]";

    public static BenchOptions Parse(string[] args)
    {
        if (args.Length == 0)
            throw new ArgumentException(Usage);
        var options = new BenchOptions(args[0], Environment.ProcessorCount, 0, "", false, "");
        for (int i = 1; i < args.Length; i++)
        {
            options = args[i] switch
            {
                "--threads" => options with { Threads = Number(args, ++i) },
                "--repeats" => options with { Repeats = Number(args, ++i) },
                "--only" => options with { Only = Value(args, ++i) },
                "--model" => options with { Model = Value(args, ++i) },
                "--ledger" => options with { ToLedger = true },
                _ => throw new ArgumentException($"'{args[i]}' is no option. {Usage}"),
            };
        }
        return options;
    }

    private static string Value(string[] args, int i) => i < args.Length ? args[i] : throw new ArgumentException($"{args[i - 1]}: a value is missing. {Usage}");

    private static int Number(string[] args, int i) =>
        int.TryParse(Value(args, i), NumberStyles.None, CultureInfo.InvariantCulture, out int n) && n > 0
            ? n
            : throw new ArgumentException($"{args[i - 1]}: found '{args[i]}', expected a whole number of 1 or more.");
}
