// The server under a crowd: 16 closed-loop clients with 8 prompts against one client, in turns, so that both see the same machine.
// A window in which the machine was taken away (a watcher that wakes every few milliseconds did not) is left out; how many were is printed.
// Clients run for a moment before a window begins: how sixteen connections open at once is no part of how a crowd is served.
using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace IptNative.Bench;

internal static class ServeBench
{
    private const int Clients = 16, Prompts = 8;
    // A server's first thousands of requests run on code that is being compiled anew beside them.
    private const double WarmUpSeconds = 8;
    private const double WindowSeconds = 1, RampSeconds = 0.25;
    private static readonly TimeSpan Gap = TimeSpan.FromMilliseconds(40);

    private sealed record Window(double PerSecond, double[] Milliseconds, double ServerCpu, double OwnCpu);

    public static void Run(BenchOptions options, Ledger ledger)
    {
        int rounds = options.Repeats == 0 ? 12 : options.Repeats;
        using var server = new ServerProcess(options, Prompts);
        // As long as asked for, as serving benchmarks measure; and as the model ends by itself, which is a handful of tokens.
        foreach ((string name, string limits) in (ReadOnlySpan<(string, string)>)[("32 tokens each", "\"max_tokens\": 32, \"min_tokens\": 31"), ("1 token each", "\"max_tokens\": 1")])
        {
            if (!name.Contains(options.Only, StringComparison.Ordinal))
                continue;
            byte[][] requests = Requests(server, limits);
            Measure(server, requests, Clients, WarmUpSeconds);
            Measure(server, requests, 1, WindowSeconds);
            var single = new List<Window>();
            var crowd = new List<Window>();
            int skipped = 0;
            for (int i = 0; i < rounds; i++)
            {
                skipped += Add(single, 1) + Add(crowd, Clients);
            }
            if (single.Count < 3 || crowd.Count < 3)
            {
                Console.WriteLine($"{name}: the machine was taken away in {skipped} of {2 * rounds} windows, too many to say anything");
                continue;
            }
            double one = Median(single.Select(w => w.PerSecond)), all = Median(crowd.Select(w => w.PerSecond));
            double[] alone = [.. single.SelectMany(w => w.Milliseconds).Order()], together = [.. crowd.SelectMany(w => w.Milliseconds).Order()];
            // A window's own p99, and the median of those: one disturbed window does not speak for all. The p99 of all requests together is printed beside it.
            double latency = Summary.At(alone, 0.5), p99 = Median(crowd.Select(w => Summary.At([.. w.Milliseconds.Order()], 0.99)));
            Console.WriteLine($"{name}, {single.Count} and {crowd.Count} windows of {WindowSeconds} s, {skipped} left out");
            Console.WriteLine($"   1 client  {one,8:f1} requests/s   p50 {latency,7:f2} ms   p99 {Summary.At(alone, 0.99),7:f2} ms   {Cpu(single)}");
            Console.WriteLine($"  {Clients} clients {all,8:f1} requests/s   p50 {Summary.At(together, 0.5),7:f2} ms   p99 {p99,7:f2} ms ({Summary.At(together, 0.99):f2} over all windows)   {Cpu(crowd)}");
            Console.WriteLine($"  throughput {all / one:f2} times, p99 {p99 / latency:f2} times the single request's median");
            string shape = $"t5-gym-tiny, {name}";
            ledger.Add(shape, "1 client", "rate", one, "requests/s");
            ledger.Add(shape, "1 client", "latency_p50", latency, "ms");
            ledger.Add(shape, $"{Clients} clients, {Prompts} prompts", "rate", all, "requests/s");
            ledger.Add(shape, $"{Clients} clients, {Prompts} prompts", "latency_p99", p99, "ms");
            ledger.Add(shape, $"{Clients} clients against 1", "throughput", all / one, "times");
            ledger.Add(shape, $"{Clients} clients against 1", "p99_over_single_p50", p99 / latency, "times");

            int Add(List<Window> to, int clients)
            {
                if (Measure(server, requests, clients, WindowSeconds) is not { } window)
                    return 1;
                to.Add(window);
                return 0;
            }
        }
    }

    private static string Cpu(List<Window> windows)
    {
        double server = Median(windows.Select(w => w.ServerCpu / w.PerSecond)), own = Median(windows.Select(w => w.OwnCpu / w.PerSecond));
        return string.Create(CultureInfo.InvariantCulture, $"CPU a request: server {1e3 * server:f2} ms, clients {1e3 * own:f2} ms");
    }

    private static byte[][] Requests(ServerProcess server, string limits)
    {
        string folder = Path.Combine(Ledger.Root, "examples", "gym", "wiki_split");
        string file = Directory.EnumerateFiles(folder, "*test*.tsv").Order(StringComparer.Ordinal).First();
        string[] inputs = [.. File.ReadLines(file).Skip(1).Take(32).Select(l => l.Split('\t')[0])];
        return [.. inputs.Select((input, i) => LeanClient.Completion($"{{\"model\": \"{server.Names[i % Prompts]}\", \"prompt\": {JsonSerializer.Serialize(input)}, {limits}}}"))];
    }

    // Null where the machine was taken away.
    private static Window? Measure(ServerProcess server, byte[][] requests, int clients, double seconds)
    {
        var latencies = new ConcurrentBag<double>();
        using var ready = new Barrier(clients + 1);
        long from = long.MaxValue, until = long.MaxValue;
        int answered = 0;
        Thread[] threads = [.. Enumerable.Range(0, clients).Select(client => new Thread(() =>
        {
            using var connection = new LeanClient(server.Port);
            ready.SignalAndWait();
            // Each client walks through all requests from its own place on: prompts are mixed at every moment.
            for (int i = client * 5; ; i++)
            {
                long begin = Stopwatch.GetTimestamp();
                if (begin >= Volatile.Read(ref until))
                    break;
                (int status, _) = connection.Send(requests[i % requests.Length]);
                long end = Stopwatch.GetTimestamp();
                if (status != 200)
                    throw new InvalidOperationException($"the server answered with {status}, expected 200.");
                if (begin >= Volatile.Read(ref from))
                    latencies.Add((end - begin) * 1e3 / Stopwatch.Frequency);
                if (end >= Volatile.Read(ref from) && end < Volatile.Read(ref until))
                    Interlocked.Increment(ref answered);
            }
        }))];
        foreach (Thread thread in threads)
            thread.Start();
        ready.SignalAndWait();
        long start = Stopwatch.GetTimestamp() + (long)(RampSeconds * Stopwatch.Frequency);
        bool taken = Watch(start);
        double serverCpu = server.CpuSeconds, ownCpu = Environment.CpuUsage.TotalTime.TotalSeconds;
        start = Stopwatch.GetTimestamp();
        Volatile.Write(ref until, start + (long)(seconds * Stopwatch.Frequency));
        Volatile.Write(ref from, start);
        taken |= Watch(until);
        serverCpu = server.CpuSeconds - serverCpu;
        ownCpu = Environment.CpuUsage.TotalTime.TotalSeconds - ownCpu;
        foreach (Thread thread in threads)
            thread.Join();
        return taken ? null : new Window(answered / seconds, [.. latencies], serverCpu / seconds, ownCpu / seconds);
    }

    // Waits; true where it was not woken in time.
    private static bool Watch(long until)
    {
        bool taken = false;
        for (long last = Stopwatch.GetTimestamp(); last < until;)
        {
            Thread.Sleep(2);
            taken |= Stopwatch.GetElapsedTime(last) > Gap;
            last = Stopwatch.GetTimestamp();
        }
        return taken;
    }

    private static double Median(IEnumerable<double> values) => Summary.At([.. values.Order()], 0.5);
}
