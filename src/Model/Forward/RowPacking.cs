// Takes the padding out of a pass' results: rows move towards the front of their own tensor. The other way round nothing is ever needed.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Blocks;

namespace IptNative.Model.Forward;

/// <summary>From [B, length, width] to [rows, width] in the same memory.</summary>
/// <param name="device">Where the tensors lie.</param>
/// <param name="scratch">Room on a device with memory of its own, which cannot move rows over one another; may be shared with others of this kind.</param>
internal sealed unsafe class RowPacking(ComputeDevice device, GrowingBuffer scratch) : IDisposable
{
    private readonly StagedBuffer _kept = new(device, DType.I32, "rows that are not padding");
    private RaggedRows? _rows;
    private int _length;
    private Tensor _indices;

    /// <summary>Takes a batch's lengths.</summary>
    /// <param name="rows">What is kept of each example; read until the next call.</param>
    /// <param name="length">Positions of each example as padded.</param>
    public void Set(RaggedRows rows, int length)
    {
        (_rows, _length, _indices) = (rows, length, default);
        if (device is CpuDevice || !IsPadded)
            return;
        int* kept = (int*)_kept.Take(rows.Rows);
        for (int b = 0; b < rows.Examples; b++)
        {
            for (int i = 0; i < rows.Length(b); i++)
                kept[rows.Offset(b) + i] = checked(b * length + i);
        }
        _indices = _kept.Send();
    }

    /// <summary>Packs a tensor.</summary>
    /// <param name="padded">f32 [B, length, width]; its rows are moved.</param>
    /// <param name="width">Of a row.</param>
    /// <returns>f32 [rows, width], the same memory.</returns>
    public Tensor Pack(Tensor padded, int width)
    {
        RaggedRows rows = _rows!; // Set comes first.
        Tensor packed = padded.Slice(0, (long)rows.Rows * width);
        if (!IsPadded)
            return packed;
        if (device is CpuDevice)
        {
            float* data = (float*)padded.Address;
            for (int b = 1; b < rows.Examples; b++)
            {
                long bytes = (long)rows.Length(b) * width * sizeof(float);
                Buffer.MemoryCopy(data + (long)b * _length * width, data + (long)rows.Offset(b) * width, bytes, bytes);
            }
            return packed;
        }
        // A gather and a copy: threads that moved rows in place would overwrite what others have still to read.
        long all = (long)rows.Examples * _length;
        Tensor gathered = scratch.Take(packed.Elements);
        EmbeddingGather.Forward(device, padded.Slice(0, all * width), _indices, gathered, rows.Rows, all, width);
        Elementwise.Copy(device, gathered, packed, packed.Elements);
        return packed;
    }

    public void Dispose() => _kept.Dispose();

    private bool IsPadded => _rows!.Rows < (long)_rows.Examples * _length; // Set comes first.
}
