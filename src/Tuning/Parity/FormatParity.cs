// What a weight format costs: gradients on packed weights against those on their expansion (must be the same) and against the original weights (how far off).
// Deliberately not: fixtures of PyTorch (ParityRun), test scores (evaluate).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using IptNative.Model.Onnx.Package;
using IptNative.Tuning.Memory;
using IptNative.Tuning.Prompts;

namespace IptNative.Tuning.Parity;

/// <summary>One format's distances.</summary>
/// <param name="Format">Its name.</param>
/// <param name="WeightBytes">Bytes of the weights.</param>
/// <param name="ToExpanded">Largest difference of the prompt's gradient from that on the expanded float32 weights in ONNX Runtime, relative to the largest gradient there.</param>
/// <param name="Cosine">With the original weights' gradient.</param>
/// <param name="RelativeError">Norm of the difference from it over its norm.</param>
/// <param name="LossDifference">Mean token loss less the original's.</param>
public sealed record FormatDistance(string Format, long WeightBytes, double ToExpanded, double Cosine, double RelativeError, double LossDifference)
{
    /// <summary>float32 arithmetic through a whole T5: the project's bound.</summary>
    public const double Tolerance = 2e-5;

    /// <summary>Whether the kernels compute with the numbers that the format stands for.</summary>
    public bool Passed => ToExpanded <= Tolerance;
}

/// <summary>Exports a checkpoint in formats and compares prompt gradients.</summary>
public static class FormatParity
{
    private const int Examples = 8;
    private const int Prompt = 20;

    /// <summary>Measures formats.</summary>
    /// <param name="path">Any checkpoint; what it holds is the original.</param>
    /// <param name="formats">Names of <see cref="WeightFormats"/>.</param>
    /// <param name="threads">CPU threads; 0 takes every core.</param>
    /// <param name="workFolder">Where packages are made and removed again.</param>
    /// <param name="device">Computes with the format's kernels, and outlives the call; null: the CPU. What they are held against is always the CPU's.</param>
    /// <returns>A row for each format.</returns>
    /// <exception cref="InvalidDataException">The checkpoint is damaged.</exception>
    /// <exception cref="IOException">A file cannot be read, or the disk is too full.</exception>
    public static IReadOnlyList<FormatDistance> Measure(string path, IReadOnlyList<DType> formats, int threads, string workFolder, ComputeDevice? device = null)
    {
        ArgumentNullException.ThrowIfNull(formats);
        using Checkpoint original = Checkpoint.Open(path, new CheckpointOpenOptions { VerifyChecksums = true });
        string root = Path.Combine(workFolder, $"iptnative-parity-{Environment.ProcessId}");
        Directory.CreateDirectory(root);
        try
        {
            float[] expected = Gradient(original, ForwardEngine.Native, threads, out double expectedLoss);
            var rows = new List<FormatDistance>();
            foreach (DType format in formats)
            {
                string packed = Path.Combine(root, WeightFormats.Name(format)), plain = $"{packed}-expanded";
                PackageExporter.Export(original, packed, new PackageOptions(format));
                using Checkpoint package = Checkpoint.Open(packed);
                PackageExporter.Export(package, plain, new PackageOptions(DType.F32));
                using Checkpoint expanded = Checkpoint.Open(plain);
                float[] gradient = Gradient(package, ForwardEngine.Native, threads, out double loss, device);
                float[] reference = Gradient(expanded, ForwardEngine.Ort, threads, out _);
                rows.Add(new FormatDistance(WeightFormats.Name(format), StoredWeights.Of(package).Bytes, Farthest(gradient, reference), Cosine(gradient, expected), Relative(gradient, expected), loss - expectedLoss));
            }
            return rows;
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }

    // The same examples for every format: ids all over the vocabulary, a prompt of embedding rows, two target tokens and the end mark.
    private static float[] Gradient(Checkpoint checkpoint, ForwardEngine engine, int threads, out double loss, ComputeDevice? there = null)
    {
        T5Config config = checkpoint.Config;
        var random = new Random(1);
        using CpuDevice? host = there is null ? new CpuDevice(threads) : null;
        ComputeDevice device = there ?? host!; // one of the two
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device, Threads = threads, AllowSpinning = false });
        using var pass = new GradientPass(checkpoint, model, new GradientOptions { Forward = engine });
        float[] values = new float[Prompt * config.DModel];
        for (int i = 0; i < values.Length; i++)
            values[i] = random.NextSingle() - 0.5f;
        using var prompt = new PromptMemory(device, new Prompt(values, Prompt, config.DModel));
        using DeviceBuffer gradient = device.Allocate(DType.F32, values.Length, "prompt gradient");
        Elementwise.Fill(device, gradient.Tensor, values.Length, 0);
        var batch = new T5Batch();
        for (int b = 0; b < Examples; b++)
            batch.Add([.. Ids(9 + 5 * b), config.EosTokenId], [.. Ids(2), config.EosTokenId], prompt: 0);
        double[] sum = [0];
        pass.Run(batch, prompt.Table, new int[Examples], [1.0 / (3 * Examples)], sum, gradient.Tensor);
        loss = sum[0];
        return gradient.Tensor.ToArray<float>();

        int[] Ids(int count)
        {
            int[] ids = new int[count];
            for (int i = 0; i < count; i++)
                ids[i] = random.Next(3, config.VocabSize);
            return ids;
        }
    }

    private static double Farthest(float[] a, float[] b)
    {
        double most = 0, scale = 0;
        for (int i = 0; i < a.Length; i++)
        {
            most = Math.Max(most, Math.Abs((double)a[i] - b[i]));
            scale = Math.Max(scale, Math.Abs(b[i]));
        }
        return most / scale;
    }

    private static double Cosine(float[] a, float[] b) => Dot(a, b) / Math.Sqrt(Dot(a, a) * Dot(b, b));

    private static double Relative(float[] a, float[] b)
    {
        double sum = 0;
        for (int i = 0; i < a.Length; i++)
            sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        return Math.Sqrt(sum / Dot(b, b));
    }

    private static double Dot(float[] a, float[] b)
    {
        double sum = 0;
        for (int i = 0; i < a.Length; i++)
            sum += (double)a[i] * b[i];
        return sum;
    }
}
