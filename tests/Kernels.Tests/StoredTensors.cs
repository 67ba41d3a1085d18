// Seeded tensors of any stored type on a CPU device, freed together. Deliberately without guards around them: GemmCase has those.
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Tests;

internal sealed unsafe class StoredTensors(CpuDevice device) : IDisposable
{
    private readonly List<DeviceBuffer> _buffers = [];

    public static float[] Floats(Tensor t) => new ReadOnlySpan<float>((void*)t.Address, (int)t.Elements).ToArray();

    /// <summary>Contents undefined.</summary>
    public Tensor Take(long elements, DType type = DType.F32)
    {
        DeviceBuffer buffer = device.Allocate(type, elements, "test");
        _buffers.Add(buffer);
        return buffer.Tensor;
    }

    /// <summary>Normal numbers, f32.</summary>
    public Tensor Random(int elements, int seed)
    {
        Tensor tensor = Take(elements);
        Numbers.Normal(elements, seed).CopyTo(new Span<float>((void*)tensor.Address, elements));
        return tensor;
    }

    /// <summary>A matrix: normal numbers, or random codes with normal scales.</summary>
    /// <param name="type">How it is stored.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="block">Codes that share a scale; unused without scales.</param>
    /// <param name="seed">Same seed, same matrix.</param>
    public Tensor Matrix(DType type, int rows, int columns, int block, int seed)
    {
        if (type is not (DType.I8 or DType.U4))
        {
            float[] values = Numbers.Normal(rows * columns, seed);
            Tensor stored = Take(values.Length, type);
            if (type == DType.F32)
                values.CopyTo(new Span<float>((void*)stored.Address, values.Length));
            else
                Array.ConvertAll(values, v => type == DType.F16 ? BitConverter.HalfToUInt16Bits((Half)v) : (ushort)(BitConverter.SingleToUInt32Bits(v) >> 16)).CopyTo(new Span<ushort>((void*)stored.Address, values.Length));
            return stored;
        }
        var random = new Random(seed);
        Tensor codes = Bytes(type, (long)rows * columns, random);
        long perRow = columns / block;
        Tensor scales = Random(rows * (int)perRow, seed + 1);
        nint zero = type == DType.U4 ? Bytes(DType.U8, rows * ((perRow + 1) / 2), random).Address : 0;
        return codes with { Scales = new BlockScales(scales.Address, zero, columns, block) };
    }

    public void Dispose() => _buffers.ForEach(b => b.Dispose());

    private Tensor Bytes(DType type, long elements, Random random)
    {
        Tensor tensor = Take(elements, type);
        random.NextBytes(new Span<byte>((void*)tensor.Address, (int)type.ByteLength(elements)));
        return tensor;
    }
}
