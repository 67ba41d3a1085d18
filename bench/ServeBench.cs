// The server under a crowd: 16 closed-loop clients with 8 prompts against one client, in turns, so that both see the same machine.
// A window in which the machine was taken away (a watcher that wakes every few milliseconds did not) is left out; how many were is printed.
using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text.Json;

namespace IptNative.Bench;

internal static class ServeBench
{
    private const int Clients = 16, Prompts = 8;
    private const double WindowSeconds = 1;
    private static readonly TimeSpan Gap = TimeSpan.FromMilliseconds(40);

    private sealed record Window(double PerSecond, double[] Milliseconds, double CpuSeconds);

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
            Measure(server.Port, requests, Clients, 3 * WindowSeconds);
            Measure(server.Port, requests, 1, WindowSeconds);
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
            double latency = Summary.At(alone, 0.5), p99 = Summary.At(together, 0.99);
            Console.WriteLine($"{name}, {single.Count} and {crowd.Count} windows of {WindowSeconds} s, {skipped} left out");
            Console.WriteLine($"   1 client  {one,8:f1} requests/s   p50 {latency,7:f2} ms   p99 {Summary.At(alone, 0.99),7:f2} ms   server CPU {1e3 * Median(single.Select(w => w.CpuSeconds / w.Milliseconds.Length)):f2} ms a request");
            Console.WriteLine($"  {Clients} clients {all,8:f1} requests/s   p50 {Summary.At(together, 0.5),7:f2} ms   p99 {p99,7:f2} ms   server CPU {1e3 * Median(crowd.Select(w => w.CpuSeconds / w.Milliseconds.Length)):f2} ms a request");
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
                double cpu = server.CpuSeconds;
                if (Measure(server.Port, requests, clients, WindowSeconds) is not { } window)
                    return 1;
                to.Add(window with { CpuSeconds = server.CpuSeconds - cpu });
                return 0;
            }
        }
    }

    private static byte[][] Requests(ServerProcess server, string limits)
    {
        string folder = Path.Combine(Ledger.Root, "examples", "gym", "wiki_split");
        string file = Directory.EnumerateFiles(folder, "*test*.tsv").Order(StringComparer.Ordinal).First();
        string[] inputs = [.. File.ReadLines(file).Skip(1).Take(32).Select(l => l.Split('\t')[0])];
        return [.. inputs.Select((input, i) => LeanClient.Completion($"{{\"model\": \"{server.Names[i % Prompts]}\", \"prompt\": {JsonSerializer.Serialize(input)}, {limits}}}"))];
    }

    // Null where the machine was taken away.
    private static Window? Measure(int port, byte[][] requests, int clients, double seconds)
    {
        var latencies = new ConcurrentBag<double[]>();
        using var ready = new Barrier(clients + 1);
        long until = long.MaxValue;
        bool taken = false;
        Thread[] threads = [.. Enumerable.Range(0, clients).Select(client => new Thread(() =>
        {
            var mine = new List<double>();
            using var connection = new LeanClient(port);
            ready.SignalAndWait();
            // Each client walks through all requests from its own place on: prompts are mixed at every moment.
            for (int i = client * 5; Stopwatch.GetTimestamp() < Volatile.Read(ref until); i++)
            {
                long begin = Stopwatch.GetTimestamp();
                (int status, _) = connection.Send(requests[i % requests.Length]);
                mine.Add(Stopwatch.GetElapsedTime(begin).TotalMilliseconds);
                if (status != 200)
                    throw new InvalidOperationException($"the server answered with {status}, expected 200.");
            }
            latencies.Add([.. mine]);
        }))];
        foreach (Thread thread in threads)
            thread.Start();
        ready.SignalAndWait();
        long start = Stopwatch.GetTimestamp(), last = start;
        Volatile.Write(ref until, start + (long)(seconds * Stopwatch.Frequency));
        while (Stopwatch.GetTimestamp() < until)
        {
            Thread.Sleep(2);
            taken |= Stopwatch.GetElapsedTime(last) > Gap;
            last = Stopwatch.GetTimestamp();
        }
        foreach (Thread thread in threads)
            thread.Join();
        double elapsed = Stopwatch.GetElapsedTime(start).TotalSeconds;
        double[] all = [.. latencies.SelectMany(l => l)];
        return taken ? null : new Window(all.Length / elapsed, all, 0);
    }

    private static double Median(IEnumerable<double> values) => Summary.At([.. values.Order()], 0.5);
}
