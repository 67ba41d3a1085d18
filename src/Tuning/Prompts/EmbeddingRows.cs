// Rows of a frozen checkpoint's embedding as floats, whatever they are stored as. Deliberately not a copy of the table.
using System.Runtime.InteropServices;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;

namespace IptNative.Tuning.Prompts;

/// <summary>Looks up rows of shared.weight.</summary>
internal static class EmbeddingRows
{
    /// <summary>The rows of some ids, f32 [ids, D].</summary>
    /// <exception cref="ArgumentException">An id is no row of the embedding.</exception>
    public static float[] Read(Checkpoint checkpoint, int[] ids)
    {
        int D = checkpoint.Config.DModel;
        Weight shared = checkpoint[T5Parameters.Shared];
        using var device = new CpuDevice(threads: 1);
        using DeviceBuffer idMemory = device.Allocate(DType.I32, ids.Length, "ids of prompt rows");
        using DeviceBuffer rowMemory = device.Allocate(DType.F32, (long)ids.Length * D, "prompt rows");
        Marshal.Copy(ids, 0, idMemory.Tensor.Address, ids.Length);
        EmbeddingGather.Forward(device, new Tensor(device, shared.Address, shared.DType, shared.Shape.Elements), idMemory.Tensor, rowMemory.Tensor, ids.Length, checkpoint.Config.VocabSize, D);
        float[] rows = new float[checked(ids.Length * D)];
        Marshal.Copy(rowMemory.Tensor.Address, rows, 0, rows.Length);
        return rows;
    }
}
