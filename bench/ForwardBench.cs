// The forward pass of a T5-base-shaped encoder against the machine's FMA peak, and what its graphs cost to start.
// Timed: Encode with its embedding gather, weights bound before. Not timed: making the session, the first pass, the JIT.
using System.Diagnostics;
using System.Text.Json.Nodes;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Bench;

internal static class ForwardBench
{
    private const int Batch = 8;
    private const int Length = 228;

    /// <summary>T5 v1.1 base.</summary>
    public static T5Config Base { get; } = T5Config.Parse(
        new JsonObject
        {
            ["model_type"] = "t5",
            ["d_model"] = 768,
            ["d_kv"] = 64,
            ["d_ff"] = 2048,
            ["num_layers"] = 12,
            ["num_decoder_layers"] = 12,
            ["num_heads"] = 12,
            ["vocab_size"] = 32128,
            ["feed_forward_proj"] = "gated-gelu",
            ["tie_word_embeddings"] = false,
        },
        "T5 v1.1 base");

    public static void Run(BenchOptions options, Ledger ledger)
    {
        int threads = options.Threads, repeats = options.Repeats > 0 ? options.Repeats : 15;
        using var device = new CpuDevice(threads);
        using var sampler = new Sampler(device);
        T5Config config = Base;
        using var checkpoint = new RandomCheckpoint(config);
        var batch = new T5Batch();
        var single = new T5Batch();
        single.Add([1], [1]);
        for (int b = 0; b < Batch; b++)
            batch.Add(Enumerable.Range(0, Length).Select(i => (i * 37 + b * 101) % config.VocabSize).ToArray(), [1, 2, 3, 4, 5]);

        Console.WriteLine($"T5-base-shaped, random f32 weights as inputs, batch {Batch}, {Length} tokens, {threads} threads");
        (string Name, ForwardEngine Engine, bool Spinning)[] variants = [("not spinning", ForwardEngine.Ort, false), ("native", ForwardEngine.Native, false), ("spinning", ForwardEngine.Ort, true)];
        foreach ((string name, ForwardEngine engine, bool spinning) in variants)
        {
            using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device, Threads = threads, AllowSpinning = spinning, Generation = engine });
            long begin = Stopwatch.GetTimestamp();
            EncodedBatch encoded = model.Encode(single);
            double start = Stopwatch.GetElapsedTime(begin).TotalMilliseconds;
            begin = Stopwatch.GetTimestamp();
            model.Score(encoded, single);
            double decoderStart = Stopwatch.GetElapsedTime(begin).TotalMilliseconds;
            begin = Stopwatch.GetTimestamp();
            using (var step = model.StartDecoding(encoded))
                step.DecodeNext([0]);
            double stepStart = Stopwatch.GetElapsedTime(begin).TotalMilliseconds;
            Console.WriteLine($"  {name,-12}  first pass over one token, session included: encoder {start:f0} ms, decoder {decoderStart:f0} ms, cached step {stepStart:f0} ms");
            foreach (TapeDetail tape in Enum.GetValues<TapeDetail>())
            {
                // A pass with a tape is ONNX Runtime's.
                if (!$"tape {tape}".Contains(options.Only, StringComparison.Ordinal) || engine == ForwardEngine.Native && tape != TapeDetail.None)
                    continue;
                var summary = Summary.Of(sampler.Time(repeats, () => model.Encode(batch, tape: tape)), EncoderFlops(config));
                // Threads that spin between two passes take the cores while the peak is measured: then there is only the time.
                Console.WriteLine($"    encode, tape {tape,-10} {(spinning ? $"{summary.Milliseconds,9:f3} ms {summary.Rate,7:f1} GFLOP/s" : summary)}");
                if (spinning)
                    ledger.Add("base encoder 8x228", $"tape {tape}, {name}; {summary.Basis}", "time_p50", summary.Milliseconds, "ms");
                else
                    summary.ToLedger(ledger, "base encoder 8x228", $"tape {tape}, {name}");
            }
            // One new token for each of eight texts: bound by reading the decoder's weights once.
            using var decoder = model.StartDecoding(model.Encode(batch));
            int[] tokens = new int[Batch];
            double[] steps = [.. sampler.Time(Math.Max(repeats, 16), () => decoder.DecodeNext(tokens)).Select(r => r.Seconds * 1e3).Order()];
            Console.WriteLine($"    cached step, {Batch} rows    p20 {Summary.At(steps, 0.2):f1}  p50 {Summary.At(steps, 0.5):f1}  p80 {Summary.At(steps, 0.8):f1} ms");
            ledger.Add($"base decoder step {Batch} rows", name, "time_p50", Summary.At(steps, 0.5), "ms");
        }
        Console.WriteLine($"  {ProcessMemory.AnonymousMiB():f0} MiB anonymous memory, weights included");
    }

    private static double EncoderFlops(T5Config c)
    {
        double rows = (double)Batch * Length;
        double linear = 2 * rows * (4.0 * c.DModel * c.InnerDim + 3.0 * c.DModel * c.DFf);
        double attention = 4 * rows * Length * c.InnerDim;
        return c.NumLayers * (linear + attention);
    }
}
