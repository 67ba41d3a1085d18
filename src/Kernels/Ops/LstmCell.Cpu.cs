// The LSTM's cell on the CPU: a row's units side by side in vectors. Contract and formulas: LstmCell.cs.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

public static partial class LstmCell
{
    private static unsafe class Cpu
    {
        public static void Forward(CpuDevice cpu, Tensor gates, Tensor previous, Tensor cell, Tensor y, long rows, long h) =>
            CpuRows.Run(cpu, rows, 8 * h, new UnitRows<ForwardUnit>(new() { Gates = (float*)gates.Address, Previous = (float*)previous.Address, Cell = (float*)cell.Address, Y = (float*)y.Address, H = h }, h));

        public static void Backward(CpuDevice cpu, Tensor gates, Tensor previous, Tensor cell, Tensor dy, Tensor dcell, Tensor dgates, long rows, long h)
        {
            var unit = new BackwardUnit
            {
                Gates = (float*)gates.Address,
                Previous = (float*)previous.Address,
                Cell = (float*)cell.Address,
                Dy = (float*)dy.Address,
                Dcell = (float*)dcell.Address,
                Dgates = (float*)dgates.Address,
                H = h,
            };
            CpuRows.Run(cpu, rows, 16 * h, new UnitRows<BackwardUnit>(unit, h));
        }

        private interface IUnit
        {
            // gate: of the first unit's input gate in [rows, 4 h]; at: in [rows, h].
            void At<V>(long gate, long at)
                where V : unmanaged, ISimd<V>;
        }

        private struct UnitRows<TUnit>(TUnit unit, long h) : IRowKernel
            where TUnit : unmanaged, IUnit
        {
            [MethodImpl(Jit.Loop)]
            public readonly void Rows<V>(long first, long end)
                where V : unmanaged, ISimd<V>
            {
                TUnit local = unit;
                for (long row = first; row < end; row++)
                {
                    long i = 0;
                    for (; i <= h - V.Lanes; i += V.Lanes)
                        local.At<V>(4 * row * h + i, row * h + i);
                    for (; i < h; i++)
                        local.At<F32x1>(4 * row * h + i, row * h + i);
                }
            }
        }

        private struct ForwardUnit : IUnit
        {
            public float* Gates, Previous, Cell, Y;
            public long H;

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            public readonly void At<V>(long gate, long at)
                where V : unmanaged, ISimd<V>
            {
                float* a = Gates + gate;
                V before = Previous == null ? V.Broadcast(0) : V.Load(Previous + at);
                Unit<V> u = LstmCell.Forward(V.Load(a), V.Load(a + H), V.Load(a + 2 * H), V.Load(a + 3 * H), before);
                u.I.Store(a);
                u.F.Store(a + H);
                u.G.Store(a + 2 * H);
                u.O.Store(a + 3 * H);
                u.Cell.Store(Cell + at);
                u.Y.Store(Y + at);
            }
        }

        private struct BackwardUnit : IUnit
        {
            public float* Gates, Previous, Cell, Dy, Dcell, Dgates;
            public long H;

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            public readonly void At<V>(long gate, long at)
                where V : unmanaged, ISimd<V>
            {
                float* a = Gates + gate;
                float* da = Dgates + gate;
                var u = new Unit<V> { I = V.Load(a), F = V.Load(a + H), G = V.Load(a + 2 * H), O = V.Load(a + 3 * H), Cell = V.Load(Cell + at) };
                V before = Previous == null ? V.Broadcast(0) : V.Load(Previous + at);
                Unit<V> d = LstmCell.Backward(u, before, V.Load(Dy + at), V.Load(Dcell + at));
                d.I.Store(da);
                d.F.Store(da + H);
                d.G.Store(da + 2 * H);
                d.O.Store(da + 3 * H);
                d.Cell.Store(Dcell + at);
            }
        }
    }
}
