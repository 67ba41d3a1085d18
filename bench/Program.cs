// Benchmarks that print one table each and append to the ledger when asked. Deliberately not tests: nothing here passes or fails. How to run each: README.md.
namespace IptNative.Bench;

internal static class Program
{
    private static int Main(string[] args)
    {
        try
        {
            BenchOptions options = BenchOptions.Parse(args);
            var ledger = new Ledger(options);
            Action<BenchOptions, Ledger> run = options.Bench switch
            {
                "gemm" => GemmBench.Run,
                "attention" => AttentionBench.Run,
                "fidelity" => FidelityBench.Run,
                "forward" => ForwardBench.Run,
                "load" => LoadBench.Run,
                "serve" => ServeBench.Run,
                "side" => SideBySideBench.Run,
                "soak" => SoakBench.Run,
                "start" => StartBench.Run,
                "step" => StepBench.Run,
                "tokenizer" => TokenizerBench.Run,
                "ipt" => IptBench.Run,
                _ => throw new ArgumentException($"'{options.Bench}' is no benchmark. {BenchOptions.Usage}"),
            };
            run(options, ledger);
            ledger.Write();
            return 0;
        }
        catch (ArgumentException e)
        {
            Console.Error.WriteLine(e.Message);
            return 2;
        }
    }
}
