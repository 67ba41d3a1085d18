// Everything that a batch of searches was told, in order. A search is a pure function of its answers, so that telling them again makes the same searches, bit for
// bit, without a pass of the model. Deliberately not: the searches' own inner state, which each kind would have to write in a form of its own.
using System.Runtime.InteropServices;
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Runs;

namespace IptNative.Tuning.Ipt;

/// <summary>Answers of a stopped process first, then room for new ones.</summary>
internal sealed class SearchLog
{
    private const string AnswersKey = "answers";

    private readonly string _path, _identity;
    private readonly RowState[] _rows;
    private readonly List<double> _answers = [];
    private int _told;

    /// <summary>Reads what a stopped process left in the batch's working folder.</summary>
    /// <exception cref="InvalidDataException">The file is damaged or of another batch.</exception>
    public SearchLog(string folder, string identity, IReadOnlyList<RunRow> rows)
    {
        (_path, _identity, _rows) = (Path.Combine(folder, TrainingState.FileName), identity, [.. rows.Select(r => new RowState { Run = r.Name })]);
        if (!File.Exists(_path))
            return;
        State = TrainingState.Read(_path, identity, rows);
        byte[] bytes;
        try
        {
            bytes = Convert.FromBase64String(State.Extra.GetValueOrDefault(AnswersKey, ""));
        }
        catch (FormatException e)
        {
            throw Damaged(e.Message, e);
        }
        if (bytes.Length % sizeof(double) != 0)
            throw Damaged($"{bytes.Length} bytes of answers, expected a multiple of {sizeof(double)}");
        _answers.AddRange(MemoryMarshal.Cast<byte, double>(bytes));
    }

    /// <summary>What was read; null at the start of a batch.</summary>
    public TrainingState? State { get; }

    /// <summary>Texts to be kept with the answers.</summary>
    public IReadOnlyDictionary<string, string> Remembered { get; set; } = new Dictionary<string, string>();

    /// <summary>Whether the next answers are known from before; new ones go to <see cref="Add"/>.</summary>
    public bool Knows => _told < _answers.Count;

    /// <summary>The next answers from before.</summary>
    /// <exception cref="InvalidDataException">The log ends in the midst of them.</exception>
    public void Tell(Span<double> answers)
    {
        int left = _answers.Count - _told;
        if (left < answers.Length)
            throw Damaged($"{left} answers are left, expected {answers.Length} or none", null);
        CollectionsMarshal.AsSpan(_answers).Slice(_told, answers.Length).CopyTo(answers);
        _told += answers.Length;
    }

    /// <summary>Keeps new answers.</summary>
    public void Add(ReadOnlySpan<double> answers)
    {
        _answers.AddRange(answers);
        _told += answers.Length;
    }

    /// <summary>Writes the log, whole or not at all; nothing while old answers are still being told.</summary>
    public void Save(long turn)
    {
        if (Knows)
            return;
        var extra = new Dictionary<string, string>(Remembered, StringComparer.Ordinal)
        {
            [AnswersKey] = Convert.ToBase64String(MemoryMarshal.AsBytes(CollectionsMarshal.AsSpan(_answers))),
        };
        var state = new TrainingState { Step = turn, Rows = _rows, Extra = extra };
        AtomicFile.Write(_path, stream => state.WriteTo(stream, _identity, 0, Enumerable.Repeat(0L, _rows.Length)));
    }

    private InvalidDataException Damaged(string what, Exception? inner = null) =>
        new($"{_path}: going on with a search; its answers cannot be read ({what}). Delete the file to run the batch from its start.", inner);
}
