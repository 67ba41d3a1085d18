// Whether ONNX Runtime and our kernels really share a device: one reads what the other has just written, in turn, in the same memory, bit for bit.
// For `doctor --sharing`; a machine on which this fails must not train with --forward ort. Deliberately no model: what is proven is memory and order.
using System.Diagnostics;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Onnx.Graph;
using Microsoft.ML.OnnxRuntime;

namespace IptNative.Model.Forward;

/// <summary>What the proof found.</summary>
/// <param name="Device">Where it ran.</param>
/// <param name="Provider">Who computed beside our kernels.</param>
/// <param name="Rounds">Passes of each, in turn.</param>
/// <param name="Elements">Numbers that went back and forth.</param>
/// <param name="Wrong">How many of them are not what they must be.</param>
/// <param name="First">The first wrong one in words; empty where there is none.</param>
/// <param name="TakenBytes">What the provider took of the device's free memory, its arena and libraries; null where the device does not say.</param>
/// <param name="Seconds">Of all rounds.</param>
public sealed record SharingProof(string Device, string Provider, int Rounds, long Elements, long Wrong, string First, long? TakenBytes, double Seconds);

/// <summary>Proves it, or does not.</summary>
public static class RuntimeSharing
{
    // Even: our kernels double and halve in turn. All numbers stay whole and below 2^24, so that float32 is exact and any order of operations gives the same bits.
    private const int Rounds = 64;
    private const int Different = 1021;

    /// <summary>Lets both compute in turn on the same memory, without waiting in between where they share a stream.</summary>
    /// <param name="device">Where.</param>
    /// <param name="elements">Numbers; enough that a pass still runs when the next is handed over.</param>
    /// <returns>What was found.</returns>
    /// <exception cref="NotSupportedException">ONNX Runtime cannot compute there; the message says why.</exception>
    /// <exception cref="InsufficientMemoryException">No room for three tensors.</exception>
    public static SharingProof Prove(ComputeDevice device, int elements = 1 << 22)
    {
        ArgumentNullException.ThrowIfNull(device);
        return Prove(device, RuntimePlace.Of(device), elements);
    }

    internal static SharingProof Prove(ComputeDevice device, RuntimePlace place, int elements)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(elements, 1);
        var graph = new OnnxGraphBuilder("sharing", 18, 8);
        graph.Output("y", graph.Op("Add", [graph.Input("x", OnnxType.Float, "n"), graph.Input("w", OnnxType.Float, "n")]), OnnxType.Float, "n");
        using DeviceBuffer x = device.Allocate(DType.F32, elements, "sharing proof"), w = device.Allocate(DType.F32, elements, "sharing proof"), y = device.Allocate(DType.F32, elements, "sharing proof");
        float[] values = new float[elements];
        for (int i = 0; i < elements; i++)
            values[i] = Start(i);
        x.Tensor.CopyFrom<float>(values);
        for (int i = 0; i < elements; i++)
            values[i] = Added(i);
        w.Tensor.CopyFrom<float>(values);

        long? before = device.FreeBytes;
        using var options = new SessionOptions { GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL, InterOpNumThreads = 1, LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR };
        using InferenceSession session = place.Open(graph.Build(), options);
        using var binding = new GraphBinding(session, place);
        using OrtValue weight = place.ValueOf(w.Tensor, [elements]);
        binding.Weight("w", weight);
        binding.Input("x", x.Tensor, elements);
        binding.Output("y", y.Tensor, elements);
        long begin = Stopwatch.GetTimestamp();
        for (int round = 0; round < Rounds; round++)
        {
            binding.Run();
            Elementwise.Scale(device, y.Tensor, x.Tensor, elements, Factor(round));
        }
        x.Tensor.CopyTo<float>(values);
        double seconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
        long? taken = before - device.FreeBytes;

        long wrong = 0;
        string first = "";
        for (int i = 0; i < elements; i++)
        {
            float expected = Start(i);
            for (int round = 0; round < Rounds; round++)
                expected = (expected + Added(i)) * Factor(round);
            if (values[i] == expected)
                continue;
            if (wrong++ == 0)
                first = string.Create(System.Globalization.CultureInfo.InvariantCulture, $"number {i} is {values[i]}, expected {expected}");
        }
        return new SharingProof(device.Name, place.Description, Rounds, elements, wrong, first, taken, seconds);
    }

    private static float Start(int i) => i % Different;

    // Even, so that halving stays whole.
    private static float Added(int i) => 2 * (i % (Different - 2));

    private static float Factor(int round) => round % 2 == 0 ? 2 : 0.5f;
}
