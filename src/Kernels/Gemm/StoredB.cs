// From B's stored format to the struct that reads it: the one place that lists the formats.

namespace IptNative.Kernels.Ops;

/// <summary>Work that is compiled for each format of B.</summary>
internal interface IWithStoredB
{
    void Run<TSource>(TSource b)
        where TSource : unmanaged, IPackSource<TSource>;
}

/// <summary>The choice.</summary>
internal static unsafe class StoredB
{
    /// <summary>Runs <paramref name="work"/> with validated arguments' B.</summary>
    public static void Choose<TWork>(in GemmArgs args, TWork work)
        where TWork : struct, IWithStoredB
    {
        switch (args.B.DType)
        {
            case DType.BF16:
                work.Run(new BF16Source((ushort*)args.B.Address, args.StepB));
                break;
            case DType.F16:
                work.Run(new F16Source((ushort*)args.B.Address, args.StepB));
                break;
            case DType.I8:
                work.Run(new I8Source((sbyte*)args.B.Address, args.StepB, new ScaleTable(args.B.Scales)));
                break;
            case DType.U4:
                work.Run(new U4Source((byte*)args.B.Address, args.StepB, new ScaleTable(args.B.Scales)));
                break;
            default:
                work.Run(new F32Source((float*)args.B.Address, args.StepB));
                break;
        }
    }
}
