// A checkpoint's tensors as a package stores them: rounded or quantised a piece at a time. Holds one tensor's scales at most.
using System.Runtime.InteropServices;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;

namespace IptNative.Model.Onnx.Package;

/// <summary>Converts on the way from a checkpoint to a package, and looks at every number.</summary>
internal sealed class CheckpointTensors(Checkpoint source) : ITensorBytes
{
    private readonly byte[] _block = new byte[WeightConverter.BlockElements * sizeof(float)];
    private readonly float[] _values = new float[WeightConverter.BlockElements];
    private float[] _scales = [];
    private byte[] _zeroPoints = [];

    public void Write(PackageTensor tensor, ByteSink put)
    {
        // Kept from the codes, which came just before.
        if (tensor.Name.EndsWith(PackageTensor.ScaleOf(""), StringComparison.Ordinal))
        {
            put(MemoryMarshal.AsBytes<float>(_scales));
            return;
        }
        if (tensor.Name.EndsWith(PackageTensor.ZeroPointOf(""), StringComparison.Ordinal))
        {
            put(_zeroPoints);
            return;
        }
        Weight weight = source[tensor.Name];
        WeightConverter.RequireFinite(weight, source.Location);
        if (WeightFormats.IsQuantised(tensor.DType))
            Quantise(weight, tensor, put);
        else
            Convert(weight, tensor.DType, put);
        source.Release(tensor.Name);
    }

    private void Convert(in Weight weight, DType type, ByteSink put)
    {
        long elements = weight.Shape.Elements;
        for (long start = 0; start < elements; start += WeightConverter.BlockElements)
        {
            int count = (int)Math.Min(WeightConverter.BlockElements, elements - start);
            Span<byte> bytes = _block.AsSpan(0, (int)type.ByteLength(count));
            WeightConverter.Convert(weight, start, count, type, bytes, source.Location);
            put(bytes);
        }
    }

    private void Quantise(in Weight weight, PackageTensor tensor, ByteSink put)
    {
        int block = checked((int)WeightFormats.Block(tensor.DType, weight.Shape[1]));
        long elements = weight.Shape.Elements;
        _scales = new float[elements / block];
        _zeroPoints = tensor.DType == DType.U4 ? new byte[elements / block / 2] : [];
        // Whole blocks, and pairs of them where two share a byte of zero points; a row that is one block may be longer than a piece.
        int piece = Math.Max(1, WeightConverter.BlockElements / (2 * block)) * 2 * block;
        float[] values = piece <= _values.Length ? _values : new float[piece];
        byte[] codes = piece <= _block.Length ? _block : new byte[piece];
        int first = 0;
        for (long start = 0; start < elements; start += piece)
        {
            Span<float> part = values.AsSpan(0, (int)Math.Min(piece, elements - start));
            WeightValues.Read(weight, start, part, source.Location);
            Span<byte> bytes = codes.AsSpan(0, (int)tensor.DType.ByteLength(part.Length));
            Span<float> scales = _scales.AsSpan(first, part.Length / block);
            if (tensor.DType == DType.I8)
                Quantiser.ToI8(part, block, MemoryMarshal.Cast<byte, sbyte>(bytes), scales);
            else
                Quantiser.ToU4(part, bytes, scales, _zeroPoints.AsSpan(first / 2, scales.Length / 2));
            put(bytes);
            first += scales.Length;
        }
        int bad = Array.FindIndex(_scales, s => !float.IsFinite(s));
        if (bad >= 0)
            throw new InvalidDataException($"{source.Location}: exporting tensor '{weight.Name}' as {WeightFormats.Name(tensor.DType)}; the numbers in the block of element {(long)bad * block} span more than float32 holds. No T5 has such weights: the checkpoint is damaged; copy or download it again.");
    }
}
