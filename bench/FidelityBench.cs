// How far the prompt gradient of bf16 products is from float32's, on real or random weights. Deliberately no time: see `iptnative bench step`.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;

namespace IptNative.Bench;

internal static class FidelityBench
{
    private const int Batch = 8;
    private const int Prompt = 100;
    private const int Source = 128;
    private const int Target = 8;

    public static void Run(BenchOptions options, Ledger ledger)
    {
        string path = options.Model.Length > 0 ? options.Model : Path.Combine(Ledger.Root, "models", "t5-gym-tiny");
        using Checkpoint checkpoint = Checkpoint.Open(path);
        string shape = $"{Path.GetFileName(Path.TrimEndingDirectorySeparator(path))} batch {Batch} {Prompt}+{Source} tokens";
        Console.WriteLine($"{shape}: distance from our float32, whose own distance from float64 is 1e-5 or less (iptnative parity)");
        (float[] reference, double loss) = Gradient(checkpoint, options.Threads, ComputeType.F32, DType.F32, ForwardEngine.Native);
        foreach ((string name, ComputeType compute, DType tape, ForwardEngine engine) in ((string, ComputeType, DType, ForwardEngine)[])
            [
                ("f32 products, ONNX Runtime", ComputeType.F32, DType.F32, ForwardEngine.Ort),
                ("f32 products, bf16 tape", ComputeType.F32, DType.BF16, ForwardEngine.Native),
                ("bf16 products", ComputeType.BF16, DType.F32, ForwardEngine.Native),
                ("bf16 products, bf16 tape", ComputeType.BF16, DType.BF16, ForwardEngine.Native),
            ])
        {
            if (!name.Contains(options.Only, StringComparison.Ordinal))
                continue;
            (float[] gradient, double itsLoss) = Gradient(checkpoint, options.Threads, compute, tape, engine);
            double dot = 0, own = 0, theirs = 0, apart = 0;
            for (int i = 0; i < gradient.Length; i++)
            {
                double a = reference[i], b = gradient[i];
                (dot, own, theirs, apart) = (dot + a * b, own + a * a, theirs + b * b, apart + (a - b) * (a - b));
            }
            double cosine = dot / Math.Sqrt(own * theirs), relative = Math.Sqrt(apart / own);
            Console.WriteLine($"  {name,-28} cosine {cosine:f8}   relative error {relative:e2}   loss {itsLoss:f6} ({(itsLoss - loss) / loss:+0.0e+00;-0.0e+00})");
            ledger.Add(shape, name, "one_minus_cosine", 1 - cosine, "1");
            ledger.Add(shape, name, "relative_error", relative, "1");
        }
    }

    private static (float[] Gradient, double Loss) Gradient(Checkpoint checkpoint, int threads, ComputeType compute, DType tape, ForwardEngine engine)
    {
        using var device = new CpuDevice(threads, compute);
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device, Threads = threads, AllowSpinning = false });
        using var pass = new GradientPass(checkpoint, model, new GradientOptions { Forward = engine, Tape = tape });
        int d = checkpoint.Config.DModel;
        var random = new Random(1);
        using DeviceBuffer prompt = device.Allocate(DType.F32, (long)Prompt * d, "prompt"), gradient = device.Allocate(DType.F32, (long)Prompt * d, "gradient");
        // The prompt starts from embeddings, as a training does.
        Weight shared = checkpoint["shared.weight"];
        float[] rows = new float[Prompt * d];
        var embedding = new Tensor(device, shared.Address, shared.DType, shared.Shape.Elements);
        using DeviceBuffer row = device.Allocate(DType.F32, d, "row");
        for (int i = 0; i < Prompt; i++)
        {
            Kernels.Ops.Conversion.ToF32(device, embedding.Slice((long)random.Next(3, checkpoint.Config.VocabSize) * d, d), row.Tensor, d);
            row.Tensor.ToArray<float>().CopyTo(rows, i * d);
        }
        prompt.Tensor.CopyFrom<float>(rows);
        gradient.Tensor.CopyFrom<float>(new float[Prompt * d]);
        var batch = new T5Batch();
        for (int b = 0; b < Batch; b++)
            batch.Add(Ids(Source), Ids(Target), prompt: 0);
        double[] loss = [0];
        pass.Run(batch, new PromptTable(prompt.Tensor, d, Prompt), new int[Batch], [1.0 / (Batch * Target)], loss, gradient.Tensor);
        return (gradient.Tensor.ToArray<float>(), loss[0]);

        int[] Ids(int count) => [.. Enumerable.Range(0, count).Select(_ => random.Next(3, checkpoint.Config.VocabSize))];
    }
}
