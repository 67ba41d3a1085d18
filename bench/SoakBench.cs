// Ten minutes of everything that clients do, and the server's memory, threads and open files meanwhile; and whether texts are left when all clients are gone. Loopback only.
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;

namespace IptNative.Bench;

internal static class SoakBench
{
    private const int Clients = 8, Prompts = 8;

    public static void Run(BenchOptions options, Ledger ledger)
    {
        double minutes = options.Repeats == 0 ? 10 : options.Repeats;
        using var server = new ServerProcess(options, Prompts, "--editable");
        long until = Stopwatch.GetTimestamp() + (long)(minutes * 60 * Stopwatch.Frequency);
        long[] counts = new long[Kinds.Length];
        Exception? failure = null;
        Thread[] threads = [.. Enumerable.Range(0, Clients).Select(client => new Thread(() =>
        {
            try
            {
                Client(server, client, until, counts);
            }
            catch (Exception e)
            {
                failure = e;
            }
        }))];
        foreach (Thread thread in threads)
            thread.Start();
        var samples = new List<double>();
        var held = new List<(int Threads, int Files)>();
        long start = Stopwatch.GetTimestamp();
        while (Stopwatch.GetTimestamp() < until && failure is null)
        {
            Thread.Sleep(TimeSpan.FromSeconds(Math.Min(5, minutes)));
            samples.Add(server.ResidentMiB);
            held.Add((server.Threads, server.OpenFiles));
            if (samples.Count % 12 == 1)
                Console.WriteLine($"{Stopwatch.GetElapsedTime(start).TotalMinutes,6:f1} min  {samples[^1],7:f1} MiB  {held[^1].Threads} threads  {held[^1].Files} files  {string.Join(", ", Kinds.Zip(counts, (k, n) => $"{n} {k}"))}");
        }
        foreach (Thread thread in threads)
            thread.Join();
        if (failure is not null)
            throw new InvalidOperationException($"the soak ended after {Stopwatch.GetElapsedTime(start).TotalMinutes:f1} minutes: {failure.Message}", failure);
        // The first fifth warms up: code is compiled, buffers grow to the largest batch.
        double[] steady = [.. samples.Skip(samples.Count / 5)];
        double[] early = [.. steady.Take(Math.Max(1, steady.Length / 4)).Order()], late = [.. steady.TakeLast(Math.Max(1, steady.Length / 4)).Order()];
        double growth = Summary.At(late, 0.5) / Summary.At(early, 0.5) - 1;
        Console.WriteLine($"{counts.Sum()} requests in {minutes} minutes; resident memory {Summary.At(early, 0.5):f1} MiB after the warm-up, {Summary.At(late, 0.5):f1} MiB at the end: {growth:+0.0 %;-0.0 %}");
        (int Threads, int Files) then = held[held.Count / 5], now = (server.Threads, server.OpenFiles);
        string left = Left(server);
        Console.WriteLine($"threads {then.Threads} after the warm-up, {now.Threads} after the end; open files {then.Files} and {now.Files}; {left}");
        string settings = string.Create(CultureInfo.InvariantCulture, $"{minutes} minutes, {Clients} clients");
        ledger.Add("t5-gym-tiny", settings, "requests", counts.Sum(), "requests");
        ledger.Add("t5-gym-tiny", settings, "resident_memory", Summary.At(late, 0.5), "MiB");
        ledger.Add("t5-gym-tiny", settings, "resident_growth", 100 * growth, "%");
        ledger.Add("t5-gym-tiny", settings, "threads_after", now.Threads, "threads");
        ledger.Add("t5-gym-tiny", settings, "open_files_after", now.Files, "files");
    }

    // What is still in the queue and the batch, as the server says it.
    private static string Left(ServerProcess server)
    {
        using var connection = new LeanClient(server.Port);
        (int status, ReadOnlyMemory<byte> body) = connection.Send(LeanClient.Request("GET", "/metrics", "application/json", []));
        Expect(status, 200);
        string[] wanted = ["iptnative_waiting_texts ", "iptnative_running_texts ", "iptnative_failed_passes_total ", "iptnative_abandoned_total "];
        return string.Join(", ", System.Text.Encoding.UTF8.GetString(body.Span).Split('\n').Where(line => wanted.Any(w => line.StartsWith(w, StringComparison.Ordinal))));
    }

    private static readonly string[] Kinds = ["answers", "streams left", "refusals", "prompts added and deleted", "lists and metrics"];

    private static void Client(ServerProcess server, int client, long until, long[] counts)
    {
        var random = new Random(client);
        var connection = new LeanClient(server.Port);
        try
        {
            for (int i = 0; Stopwatch.GetTimestamp() < until; i++)
            {
                string text = string.Join(' ', Enumerable.Range(0, random.Next(1, 60)).Select(_ => Words[random.Next(Words.Length)]));
                string head = $"{{\"model\": \"{server.Names[random.Next(Prompts)]}\", \"prompt\": {JsonSerializer.Serialize(text)}, \"max_tokens\": {random.Next(1, 60)}";
                int kind = random.Next(100);
                if (kind < 80)
                {
                    string more = (kind % 4) switch { 0 => ", \"n\": 3, \"temperature\": 0.9, \"top_k\": 20", 1 => ", \"logprobs\": 3", 2 => ", \"stop\": [\" the\"]", _ => "" };
                    Expect(connection.Send(LeanClient.Completion(head + more + "}")).Status, 200);
                    Interlocked.Increment(ref counts[0]);
                }
                else if (kind < 90)
                {
                    connection.SendAndLeave(LeanClient.Completion(head + ", \"stream\": true, \"min_tokens\": 0}"));
                    connection.Dispose();
                    connection = new LeanClient(server.Port);
                    Interlocked.Increment(ref counts[1]);
                }
                else if (kind < 94)
                {
                    Expect(connection.Send(LeanClient.Completion(head + ", \"echo\": true}")).Status, 400);
                    Expect(connection.Send(LeanClient.Completion("{\"model\": \"nobody\", \"prompt\": \"x\"}")).Status, 404);
                    Interlocked.Add(ref counts[2], 2);
                }
                else if (kind < 97)
                {
                    string name = $"own-{client}-{i}", file = Path.Combine(Path.GetTempPath(), $"iptnative-soak-{Environment.ProcessId}-{client}.npy");
                    float[] values = server.PromptValues(i);
                    NumpyFile.Write(file, new TensorShape(values.Length / server.DModel, server.DModel), values);
                    Expect(connection.Send(LeanClient.Request("PUT", $"/v1/prompts/{name}", "application/octet-stream", File.ReadAllBytes(file))).Status, 201);
                    File.Delete(file);
                    Expect(connection.Send(LeanClient.Completion($"{{\"model\": \"{name}\", \"prompt\": \"a\", \"max_tokens\": 3}}")).Status, 200);
                    Expect(connection.Send(LeanClient.Request("DELETE", $"/v1/prompts/{name}", "application/json", [])).Status, 200);
                    Interlocked.Increment(ref counts[3]);
                }
                else
                {
                    Expect(connection.Send(LeanClient.Request("GET", kind == 97 ? "/v1/models" : "/metrics", "application/json", [])).Status, 200);
                    Interlocked.Increment(ref counts[4]);
                }
            }
        }
        finally
        {
            connection.Dispose();
        }
    }

    private static readonly string[] Words = ["the", "cat", "sat", "on", "a", "mat", "balance", "transfer", "what", "is", "green", "apples", "Ollerenshaw", "1984", "über", "however", "seldom"];

    private static void Expect(int status, int expected)
    {
        if (status != expected)
            throw new InvalidOperationException($"the server answered with {status}, expected {expected}.");
    }
}
