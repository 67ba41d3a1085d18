// Benchmarks that print one table each. Deliberately not tests: nothing here passes or fails; figures that matter go into the ledger by hand.
namespace IptNative.Bench;

internal static class Program
{
    private static int Main(string[] args)
    {
        switch (args)
        {
            case ["forward", .. string[] rest]:
                ForwardBench.Run(threads: rest.Length > 0 ? int.Parse(rest[0]) : 2, repeats: rest.Length > 1 ? int.Parse(rest[1]) : 7);
                return 0;
            default:
                Console.Error.WriteLine("usage: iptnative-bench forward [threads=2] [repeats=7]");
                return 2;
        }
    }
}
