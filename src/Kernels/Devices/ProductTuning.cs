// Measures, shape by shape, whether the library's product or ours is the faster on a device. Deliberately not when: `profile` asks for it.
#if ILGPU
using System.Diagnostics;
using IptNative.Kernels.Gpu;
using IptNative.Kernels.Ops;
#endif

namespace IptNative.Kernels.Devices;

/// <summary>Times both products of a shape.</summary>
public static class ProductTuning
{
#if ILGPU
    private const int Repeats = 5;
    private const int CallsPerRepeat = 10;

#endif
    /// <summary>Whether a device has two to choose from.</summary>
    /// <param name="device">The device.</param>
    /// <returns>True with a GPU and NVIDIA's library.</returns>
    public static bool HasChoice(ComputeDevice device) =>
#if ILGPU
        device is IlgpuDevice { HasProductLibrary: true };
#else
        false;
#endif

    /// <summary>Times every shape on operands of its own.</summary>
    /// <param name="device">The device.</param>
    /// <param name="shapes">What to time; f32, bf16 or f16 as stored type.</param>
    /// <param name="cancel">Stops between two shapes.</param>
    /// <returns>One measurement a shape, the best of some repeats.</returns>
    /// <exception cref="NotSupportedException">The device has nothing to choose from.</exception>
    /// <exception cref="InsufficientMemoryException">No room for the operands.</exception>
    public static IReadOnlyList<ProductMeasurement> Measure(ComputeDevice device, IReadOnlyList<ProductShape> shapes, CancellationToken cancel)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(shapes);
#if ILGPU
        if (device is IlgpuDevice { HasProductLibrary: true } gpu)
        {
            ProductTable before = gpu.Products;
            try
            {
                var measured = new List<ProductMeasurement>();
                foreach (ProductShape shape in shapes)
                {
                    cancel.ThrowIfCancellationRequested();
                    measured.Add(Measure(gpu, shape));
                }
                return measured;
            }
            finally
            {
                gpu.Products = before;
            }
        }
#endif
        throw new NotSupportedException($"measuring products: found {device.Name} without NVIDIA's library, expected a GPU with cuBLAS: otherwise there is nothing to choose from. See 'iptnative doctor'.");
    }

#if ILGPU
    private static ProductMeasurement Measure(IlgpuDevice gpu, ProductShape s)
    {
        using DeviceBuffer a = gpu.Allocate(DType.F32, (long)s.M * s.K * s.Batches, "product, A"), b = gpu.Allocate(s.B, (long)s.K * s.N * s.Batches, "product, B"), c = gpu.Allocate(DType.F32, (long)s.M * s.N * s.Batches, "product, C");
        Elementwise.Fill(gpu, a.Tensor, a.Tensor.Elements, 0.5f);
        if (s.B == DType.F32)
        {
            Elementwise.Fill(gpu, b.Tensor, b.Tensor.Elements, 0.25f);
        }
        else
        {
            using DeviceBuffer wide = gpu.Allocate(DType.F32, b.Tensor.Elements, "product, B before rounding");
            Elementwise.Fill(gpu, wide.Tensor, wide.Tensor.Elements, 0.25f);
            Conversion.FromF32(gpu, wide.Tensor, b.Tensor, b.Tensor.Elements);
            gpu.Synchronize();
        }
        var args = new GemmArgs
        {
            A = a.Tensor,
            B = b.Tensor,
            C = c.Tensor,
            M = s.M,
            N = s.N,
            K = s.K,
            TransA = s.TransA,
            TransB = s.TransB,
            Batches = s.Batches,
            StrideA = new BatchStride((long)s.M * s.K, 0),
            StrideB = new BatchStride((long)s.K * s.N, 0),
            StrideC = new BatchStride((long)s.M * s.N, 0),
            Compute = s.Compute,
        };
        return new ProductMeasurement(s, Time(gpu, args, ProductTable.Library), Time(gpu, args, ProductTable.Own));
    }

    private static double Time(IlgpuDevice gpu, in GemmArgs args, ProductTable choice)
    {
        gpu.Products = choice;
        // Compiled, and its scratch memory taken.
        Gemm.Run(gpu, args);
        gpu.Synchronize();
        double best = double.MaxValue;
        for (int i = 0; i < Repeats; i++)
        {
            long begin = Stopwatch.GetTimestamp();
            for (int call = 0; call < CallsPerRepeat; call++)
                Gemm.Run(gpu, args);
            gpu.Synchronize();
            best = Math.Min(best, Stopwatch.GetElapsedTime(begin).TotalSeconds / CallsPerRepeat);
        }
        return best;
    }
#endif
}
