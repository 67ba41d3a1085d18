// The cold start of `iptnative generate` on the shipped checkpoint: process start to exit, the build not included.
namespace IptNative.Bench;

internal static class StartBench
{
    public static void Run(BenchOptions options, Ledger ledger)
    {
        const string Command = "./iptnative generate --model models/t5-gym-tiny --input '[clinc150-domain] what is my balance'";
        // Builds where that is needed, and brings the files into memory.
        ChildProcess.Run(Command);
        ChildTime time = ChildProcess.Median(options.Repeats > 0 ? options.Repeats : 15, Command);
        Console.WriteLine($"generate, cold: {time.Seconds:f2} s by the clock, {time.CpuSeconds:f2} s of CPU time");
        ledger.Add("t5-gym-tiny, one input", "", "time_p50", time.Seconds, "s");
        ledger.Add("t5-gym-tiny, one input", "", "cpu_time_p50", time.CpuSeconds, "s");
    }
}
