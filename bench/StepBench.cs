// A decoder's step: one more token for 1, 8 and 32 texts, every weight format in our own kernels beside ONNX Runtime's float32. Bound by reading the weights once.
// Timed: 20 steps of a fresh decoder, argmax left out. Not timed: encoding, cross-attention's keys and values, the first decoder.
using System.Diagnostics;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using IptNative.Model.Onnx.Package;

namespace IptNative.Bench;

internal static class StepBench
{
    private const int Steps = 20, Source = 32;

    public static void Run(BenchOptions options, Ledger ledger)
    {
        int repeats = options.Repeats > 0 ? options.Repeats : 5;
        using var device = new CpuDevice(options.Threads);
        (DType Format, ForwardEngine Engine)[] forms =
            [(DType.F32, ForwardEngine.Ort), (DType.F32, ForwardEngine.Native), (DType.BF16, ForwardEngine.Native), (DType.F16, ForwardEngine.Native), (DType.I8, ForwardEngine.Native), (DType.U4, ForwardEngine.Native)];
        foreach (string shape in (string[])["base", "small", "t5-gym-tiny"])
        {
            foreach (DType format in forms.Select(f => f.Format).Distinct())
            {
                ForwardEngine[] engines = [.. forms.Where(f => f.Format == format && $"{shape} {Name(format, f.Engine)}".Contains(options.Only, StringComparison.Ordinal)).Select(f => f.Engine)];
                if (engines.Length == 0)
                    continue;
                string folder = Directory.CreateTempSubdirectory("iptnative-bench-").FullName;
                try
                {
                    using Checkpoint checkpoint = Open(shape, format, folder);
                    foreach (ForwardEngine engine in engines)
                        Measure(shape, Name(format, engine), checkpoint, engine, device, repeats, ledger);
                }
                finally
                {
                    Directory.Delete(folder, recursive: true);
                }
            }
        }
    }

    private static string Name(DType format, ForwardEngine engine) => $"{WeightFormats.Name(format)}{(engine == ForwardEngine.Ort ? ", ONNX Runtime" : "")}";

    private static Checkpoint Open(string shape, DType format, string folder)
    {
        if (shape == "t5-gym-tiny")
        {
            using Checkpoint shipped = Checkpoint.Open(Path.Combine(Ledger.Root, "models", shape));
            PackageExporter.Export(shipped, folder, new(format, Overwrite: true));
        }
        else
        {
            RandomPackage.Write(T5Shapes.Named(shape), folder, format);
        }
        return Checkpoint.Open(folder);
    }

    private static void Measure(string shape, string name, Checkpoint checkpoint, ForwardEngine engine, CpuDevice device, int repeats, Ledger ledger)
    {
        using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Device = device, Threads = device.Pool.Workers, AllowSpinning = engine == ForwardEngine.Ort, Generation = engine });
        foreach (int rows in (int[])[1, 8, 32])
        {
            var batch = new T5Batch();
            for (int b = 0; b < rows; b++)
                batch.Add(Enumerable.Range(0, Source).Select(i => (i * 37 + b * 101) % 8000).ToArray());
            EncodedBatch encoded = model.Encode(batch);
            int[] tokens = new int[rows];
            var times = new List<double>();
            for (int i = 0; i <= repeats; i++)
            {
                using IStepDecoder decoder = model.StartDecoding(encoded);
                long begin = Stopwatch.GetTimestamp();
                for (int step = 0; step < Steps; step++)
                    decoder.DecodeNext(tokens);
                if (i > 0)
                    times.Add(Stopwatch.GetElapsedTime(begin).TotalMilliseconds / Steps);
            }
            double[] sorted = [.. times.Order()];
            Console.WriteLine($"{shape,-12} {name,-18} {rows,3} rows   p20 {Summary.At(sorted, 0.2),8:f3}  p50 {Summary.At(sorted, 0.5),8:f3}  p80 {Summary.At(sorted, 0.8),8:f3} ms a step");
            ledger.Add($"{shape} decoder step", $"{name}, {rows} rows", "time_p50", Summary.At(sorted, 0.5), "ms");
        }
    }
}
