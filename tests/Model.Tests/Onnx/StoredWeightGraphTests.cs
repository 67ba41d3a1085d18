// Graphs that take narrow weights as they are stored: the same numbers as with weights widened before, and never many widened ones at once.
using System.Text.Json;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using IptNative.Model.Onnx.Graph;
using IptNative.Model.Tests.Forward;
using Microsoft.ML.OnnxRuntime;
using Xunit;
using Tensor = IptNative.Kernels.Devices.Tensor;

namespace IptNative.Model.Tests.Onnx;

public sealed class StoredWeightGraphTests
{
    /// <summary>
    /// ONNX Runtime runs nodes in an order of its own. Were all weights widened first, float32 copies of the whole model would be alive at once; the order
    /// of nodes in the graph sees to it that each is widened right before it is used.
    /// </summary>
    [Fact]
    public void EachWeightIsWidenedRightBeforeItIsUsed()
    {
        T5Config config = T5Config.Load(Path.Combine(Goldens.Folder, "config.json"));
        using var device = new CpuDevice(1);
        using Checkpoint checkpoint = Checkpoint.Open(Goldens.Folder);
        string folder = Directory.CreateTempSubdirectory("iptnative-").FullName;
        RuntimeGraph narrow = T5RuntimeGraph.Encoder(config, TapeDetail.Full, _ => OnnxType.BFloat16), wide = T5RuntimeGraph.Encoder(config, TapeDetail.Full);
        float[] rounded = Run(narrow, true, Path.Combine(folder, "profile"), out string profile), expected = Run(wide, false, null, out _);
        Assert.Equal(expected, rounded);

        string[] order = [.. JsonDocument.Parse(File.ReadAllText(profile)).RootElement.EnumerateArray()
            .Where(e => e.GetProperty("cat").GetString() == "Node" && e.GetProperty("name").GetString()!.EndsWith("_kernel_time", StringComparison.Ordinal)) // every event has a name
            .OrderBy(e => e.GetProperty("ts").GetInt64()).Select(e => e.GetProperty("name").GetString()![..^"_kernel_time".Length])];
        int casts = 0;
        for (int i = 0; i < order.Length; i++)
        {
            if (!order[i].StartsWith("Cast_", StringComparison.Ordinal))
                continue;
            casts++;
            // Nodes are numbered as they were written, and a weight's Cast is written right before its reader.
            string reader = $"_{int.Parse(order[i]["Cast_".Length..], System.Globalization.CultureInfo.InvariantCulture) + 1}";
            int at = Array.FindIndex(order, name => name.EndsWith(reader, StringComparison.Ordinal));
            Assert.InRange(at - i, 1, 2);
        }
        Assert.Equal(narrow.Weights.Count, casts);
        Directory.Delete(folder, recursive: true);

        float[] Run(RuntimeGraph graph, bool bf16, string? profileTo, out string written)
        {
            using var options = new SessionOptions { GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL, IntraOpNumThreads = 1, InterOpNumThreads = 1 };
            if (profileTo is not null)
            {
                options.EnableProfiling = true;
                options.ProfileOutputPathPrefix = profileTo;
            }
            using InferenceSession session = RuntimePlace.Host.Open(graph.Model, options);
            using var binding = new GraphBinding(session, RuntimePlace.Host);
            var held = new List<IDisposable>();
            foreach (string name in graph.Weights)
            {
                Weight weight = checkpoint[name];
                // Both see weights rounded to bf16: the graph that widens, and the one that is given float32.
                DeviceBuffer stored = device.Allocate(DType.BF16, weight.Shape.Elements, name), widened = device.Allocate(DType.F32, weight.Shape.Elements, name);
                Conversion.FromF32(device, new Tensor(device, weight.Address, weight.DType, weight.Shape.Elements), stored.Tensor, weight.Shape.Elements);
                Conversion.ToF32(device, stored.Tensor, widened.Tensor, weight.Shape.Elements);
                OrtValue value = RuntimePlace.Host.ValueOf(bf16 ? stored.Tensor : widened.Tensor, weight.Shape.Dims.ToArray());
                binding.Weight(name, value);
                held.AddRange([value, stored, widened]);
            }
            const int S = 3;
            using DeviceBuffer embeds = Floats((long)S * config.DModel), bias = Floats((long)config.NumHeads * S * S), mask = device.Allocate(DType.I32, S, "mask"), hidden = Floats((long)S * config.DModel);
            mask.Tensor.CopyFrom<int>([1, 1, 1]);
            binding.Input(T5RuntimeGraph.InputsEmbeds, embeds.Tensor, 1, S, config.DModel);
            binding.Input(T5RuntimeGraph.KeyMask, mask.Tensor, 1, S);
            binding.Input(T5RuntimeGraph.PositionBias, bias.Tensor, 1, config.NumHeads, S, S);
            binding.Output(T5RuntimeGraph.EncoderHidden, hidden.Tensor, 1, S, config.DModel);
            foreach (string name in graph.Tape)
                Output(name, config.DModel);
            foreach (InsideOutput inside in graph.Inside)
                Output(inside.Name, inside.Width);
            binding.Run();
            written = profileTo is null ? "" : session.EndProfiling();
            float[] result = hidden.Tensor.ToArray<float>();
            held.ForEach(h => h.Dispose());
            return result;

            void Output(string name, int width)
            {
                DeviceBuffer buffer = Floats((long)S * width);
                held.Add(buffer);
                binding.Output(name, buffer.Tensor, 1, S, width);
            }
        }

        DeviceBuffer Floats(long elements)
        {
            DeviceBuffer buffer = device.Allocate(DType.F32, elements, "test");
            var random = new Random(4);
            buffer.Tensor.CopyFrom<float>([.. Enumerable.Range(0, (int)elements).Select(_ => random.NextSingle() - 0.5f)]);
            return buffer;
        }
    }
}
