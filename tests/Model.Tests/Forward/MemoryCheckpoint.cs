// A checkpoint whose weights lie in memory: random for odd shapes, or copied from the goldens. Independent of the product's readers.
using System.Runtime.InteropServices;
using System.Text.Json;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Onnx;
using IptNative.Model.Onnx.Graph;

namespace IptNative.Model.Tests.Forward;

internal sealed unsafe class MemoryCheckpoint : Checkpoint
{
    private readonly Dictionary<string, Weight> _weights = [];

    private MemoryCheckpoint(T5Config config) => Config = config;

    public override string Location => "memory";

    public override IReadOnlyList<string> Files => [];

    public override T5Config Config { get; }

    public override Weight this[string name] => _weights.TryGetValue(name, out Weight weight) ? weight : throw new InvalidDataException($"memory: tensor '{name}' is missing.");

    /// <summary>Weights at which every sublayer matters: attention is neither flat nor one-hot.</summary>
    public static MemoryCheckpoint Random(T5Config config, int seed, DType type = DType.F32)
    {
        var random = new Random(seed);
        var checkpoint = new MemoryCheckpoint(config);
        foreach (T5Parameter parameter in T5Parameters.Of(config))
        {
            bool norm = parameter.Name.EndsWith("layer_norm.weight", StringComparison.Ordinal);
            bool bias = parameter.Name.EndsWith("relative_attention_bias.weight", StringComparison.Ordinal);
            double scale = norm ? 0.2 : bias ? 1 : parameter.Name == T5Parameters.Shared ? 1 : 1 / Math.Sqrt(parameter.Shape[1]);
            float[] values = new float[parameter.Shape.Elements];
            for (int i = 0; i < values.Length; i++)
                values[i] = (float)((norm ? 1 : 0) + scale * Normal(random));
            checkpoint.Add(parameter.Name, parameter.Shape, type, values);
        }
        return checkpoint;
    }

    /// <summary>The goldens' model.safetensors or model_bf16.safetensors.</summary>
    public static MemoryCheckpoint Golden(string file = "model.safetensors")
    {
        var checkpoint = new MemoryCheckpoint(T5Config.Load(Path.Combine(Goldens.Folder, "config.json")));
        byte[] bytes = File.ReadAllBytes(Path.Combine(Goldens.Folder, file));
        int header = (int)BitConverter.ToInt64(bytes, 0);
        using JsonDocument json = JsonDocument.Parse(bytes.AsMemory(8, header));
        foreach (JsonProperty entry in json.RootElement.EnumerateObject().Where(e => e.Name != "__metadata__"))
        {
            DType type = Enum.Parse<DType>(entry.Value.GetProperty("dtype").GetString() ?? "");
            long[] shape = [.. entry.Value.GetProperty("shape").EnumerateArray().Select(v => v.GetInt64())];
            int[] offsets = [.. entry.Value.GetProperty("data_offsets").EnumerateArray().Select(v => v.GetInt32())];
            checkpoint.Add(entry.Name, new TensorShape(shape), type, bytes.AsSpan(8 + header + offsets[0], offsets[1] - offsets[0]));
        }
        return checkpoint;
    }

    public float[] Floats(string name)
    {
        Weight weight = this[name];
        return new ReadOnlySpan<float>((void*)weight.Address, (int)weight.Shape.Elements).ToArray();
    }

    /// <summary>Writes model.onnx and its data as a package would.</summary>
    public string WritePackage(string folder)
    {
        Directory.CreateDirectory(folder);
        var tensors = new List<PackageTensor>();
        using (FileStream data = File.Create(Path.Combine(folder, "model.onnx.data")))
        {
            foreach (T5Parameter parameter in T5Parameters.Of(Config))
            {
                Weight weight = this[parameter.Name];
                tensors.Add(new PackageTensor(weight.Name, weight.DType, weight.Shape, "model.onnx.data", data.Position, weight.ByteLength));
                data.Write(new ReadOnlySpan<byte>((void*)weight.Address, (int)weight.ByteLength));
            }
        }
        string path = Path.Combine(folder, "model.onnx");
        File.WriteAllBytes(path, T5PackageGraph.Build(Config, tensors));
        return path;
    }

    protected override void Dispose(bool disposing)
    {
        foreach (Weight weight in _weights.Values)
            NativeMemory.Free((void*)weight.Address);
        _weights.Clear();
    }

    private void Add(string name, TensorShape shape, DType type, float[] values)
    {
        if (type == DType.F32)
            Add(name, shape, type, MemoryMarshal.AsBytes<float>(values));
        else
            Add(name, shape, type, MemoryMarshal.AsBytes<ushort>([.. values.Select(v => type == DType.F16 ? BitConverter.HalfToUInt16Bits((Half)v) : (ushort)(BitConverter.SingleToUInt32Bits(v) >> 16))]));
    }

    private void Add(string name, TensorShape shape, DType type, ReadOnlySpan<byte> bytes)
    {
        void* memory = NativeMemory.Alloc((nuint)bytes.Length);
        bytes.CopyTo(new Span<byte>(memory, bytes.Length));
        _weights.Add(name, new Weight(name, type, shape, (nint)memory, bytes.Length));
    }

    private static double Normal(Random random) => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
}
