// Reads f32, f16 and bf16 as f32, exactly. Deliberately not the way back, which rounds: Ops/Conversion.cs.
using System.Runtime.CompilerServices;

namespace IptNative.Kernels.Cpu;

/// <summary>Widening loads of whole runs.</summary>
internal static unsafe class Widening
{
    /// <summary>Widens <paramref name="n"/> elements.</summary>
    [MethodImpl(Jit.Loop)]
    public static void ToF32<V>(void* source, DType type, float* target, long n)
        where V : unmanaged, ISimd<V>
    {
        ushort* s = (ushort*)source;
        long i = 0;
        switch (type)
        {
            case DType.F32:
                Buffer.MemoryCopy(source, target, n * sizeof(float), n * sizeof(float));
                break;
            case DType.F16:
                for (; i <= n - V.Lanes; i += V.Lanes)
                    V.LoadF16(s + i).Store(target + i);
                for (; i < n; i++)
                    F32x1.LoadF16(s + i).Store(target + i);
                break;
            case DType.BF16:
                for (; i <= n - V.Lanes; i += V.Lanes)
                    V.LoadBF16(s + i).Store(target + i);
                for (; i < n; i++)
                    F32x1.LoadBF16(s + i).Store(target + i);
                break;
            default:
                throw new ArgumentException($"Widening: found {type.Name()}, expected f32, f16 or bf16.", nameof(type));
        }
    }
}
